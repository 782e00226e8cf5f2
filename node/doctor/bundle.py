"""Are the active model bundles there, do they compute here what they computed when they were made, who serves them?"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from node.bundles.files import bundle_path
from node.bundles.registry import ActiveBundle, active_bundles
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Status, Subject, Verdict, failed, ok, skipped, warning
from node.ledger.ledger import now
from node.monitoring.presence import present_processes
from schemas.bundle import Manifest, bundle_digest, bundle_folder, read_manifest
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.errors import SettingsError
from schemas.settings import Settings, WorkerSettings
from schemas.tables import Bundle, BundleState, Process, ServedBundle

#: What a worker has and a receiver host need not have.
_WORKER_PACKAGES = ("torch", "timm", "safetensors")
#: A worker looks at the registry twice a second and loads a bundle within a few.
_LOADING_SECONDS = 60.0
_GRAVITY = (Status.FAILED, Status.WARNING, Status.SKIPPED, Status.OK)


@dataclass(frozen=True)
class _Examined:
    """A bundle that is active, or will be."""

    manifest: Manifest
    digest: str
    folder: Path
    #: Name and version.
    title: str
    #: How long it has been active.
    active_seconds: float = 0.0


@dataclass(frozen=True)
class _Registry:
    #: How many bundles it knows.
    registered: int
    active: list[_Examined]
    #: Active ones whose manifest is of another version of the software.
    unreadable: int


def bundle_subject(settings: Settings | SettingsError) -> Subject:
    """Checks of every active bundle; of the shipped one where nobody has started a node yet, or nobody can tell."""
    worker = settings.worker if isinstance(settings, Settings) else WorkerSettings()
    seconds = worker.engine_start_seconds

    def examine(judge: Judge) -> Iterator[Verdict]:
        known = _in_registry(settings) if isinstance(settings, Settings) else None
        if known is not None and known.registered and not known.active:
            yield judge("bundle.active", lambda: _none_active(known.unreadable))
            return
        bundles = known.active if known is not None and known.active else [_shipped()]
        which = ""
        if known is None:
            which = " (the shipped one; which are active cannot be told)"
        elif not known.active:
            which = " (the shipped one, which becomes active at the first start)"
        yield judge("bundle.active", lambda: _listed(bundles, which, known.unreadable if known else 0))
        yield judge("bundle.files", lambda: _of_each(bundles, _files))
        yield judge("bundle.self-test", lambda: _of_each(bundles, lambda each: _self_test(each, seconds)))
        yield judge("bundle.clearance", lambda: _of_each(bundles, _clearance))
        if isinstance(settings, Settings) and known is not None and known.active:
            yield judge("bundle.served", lambda: _served(settings, bundles))

    return Subject("bundle", ("active", "files", "self-test", "clearance", "served"), examine, 4 * seconds + 30)


def _in_registry(settings: Settings) -> _Registry | None:
    """What the registry holds; None when the ledger cannot be asked."""
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            registered = session.scalar(select(func.count()).select_from(Bundle)) or 0
            rows = session.execute(
                select(Bundle.digest, now() - Bundle.activated_at).where(Bundle.state == BundleState.ACTIVE)
            )
            seconds = {digest: active_seconds for digest, active_seconds in rows}  # noqa: C416 - rows, not pairs
            active = [_examined(each, settings, seconds[each.digest]) for each in active_bundles(session)]
    except (LedgerUnavailableError, SQLAlchemyError):
        return None
    return _Registry(registered, active, len(seconds) - len(active))


def _examined(bundle: ActiveBundle, settings: Settings, active_seconds: float) -> _Examined:
    title = f"{bundle.manifest.name} {bundle.manifest.version}"
    return _Examined(bundle.manifest, bundle.digest, bundle_path(settings.home, bundle.digest), title, active_seconds)


def _shipped() -> _Examined:
    folder = bundle_folder(None)
    manifest = read_manifest(folder)
    return _Examined(manifest, bundle_digest(folder), folder, f"{manifest.name} {manifest.version}")


def _none_active(unreadable: int) -> Finding:
    found = "no model is active: what comes in is kept, and nothing is analysed"
    if unreadable:
        return _of_another_version(f"{found}; {unreadable}")
    return failed(found, "Run chexnode bundle activate.")


def _listed(bundles: Sequence[_Examined], which: str, unreadable: int) -> Finding:
    found = "; ".join(f"{each.title}, digest {each.digest[:16]}...{which}" for each in bundles)
    return _of_another_version(f"{found}; {unreadable}") if unreadable else ok(found)


def _of_another_version(found: str) -> Finding:
    return failed(
        f"{found} with a manifest that this version of the software cannot read",
        "Update the software, or run chexnode bundle rollback.",
    )


def _of_each(bundles: Sequence[_Examined], check: Callable[[_Examined], Finding]) -> Finding:
    """The worst of what the check finds of each bundle, and what it says of all."""
    findings = [check(each) for each in bundles]
    if len(bundles) == 1:
        return findings[0]
    worst = min((each.status for each in findings), key=_GRAVITY.index)
    found = "; ".join(f"{each.title}: {finding.found}" for each, finding in zip(bundles, findings, strict=True))
    to_do = " ".join(dict.fromkeys(each.to_do for each in findings if each.to_do and each.status == worst))
    return Finding(worst, found, to_do, "; ".join(each.said for each in findings if each.said))


def _files(bundle: _Examined) -> Finding:
    to_do = "Register it again from where it came from: chexnode bundle activate FOLDER."
    if not bundle.folder.is_dir():
        return failed(f"{bundle.folder} is not there", to_do)
    if bundle_digest(bundle.folder) != bundle.digest:
        return failed(f"{bundle.folder} is not what was registered: its digest differs", to_do)
    return ok(f"whole, in {bundle.folder}")


def _self_test(bundle: _Examined, seconds: float) -> Finding:
    """`chexnode bundle verify` as a process: nothing of a worker is imported here."""
    missing = [name for name in _WORKER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return skipped(
            f"a worker's packages are not installed on this host ({', '.join(missing)}): run it on a worker's host"
        )
    if not bundle.folder.is_dir():
        return skipped("its files are not there")
    command = [sys.executable, "-P", "-m", "schemas.command_line", "bundle", "verify", str(bundle.folder)]
    to_do = "Fetch the bundle again, or install the versions of constraints.txt; no worker serves it so."
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return failed(f"not done within {seconds:g} s (worker.engine_start_seconds)", to_do)
    if run.returncode:
        said = run.stderr.strip().removeprefix("chexnode: ").splitlines()
        return failed("not passed", to_do, said[-1] if said else f"status {run.returncode}")
    return ok(run.stdout.strip().splitlines()[-1].removeprefix("self-test ") + " (on the CPU)")


def _clearance(bundle: _Examined) -> Finding:
    if bundle.manifest.cleared_for_clinical_use:
        return ok("its makers have cleared it for clinical use")
    unproven = f"; {bundle.manifest.unproven}" if bundle.manifest.unproven else ""
    return warning(
        f"{NOT_FOR_CLINICAL_USE.lower()}{unproven}",
        "Use its results for tests only; every report and page says so as well.",
    )


def _served(settings: Settings, bundles: Sequence[_Examined]) -> Finding:
    with reach_ledger(settings) as ledger, ledger.read() as session:
        workers = {each.id: each for each in present_processes(session) if each.role == "worker"}
        rows = session.scalars(select(ServedBundle).where(ServedBundle.process_id.in_(list(workers)))).all()
    if not workers:
        return skipped("no worker runs (parts.worker)")

    def of(bundle: _Examined) -> Finding:
        own = [each for each in rows if each.bundle_digest == bundle.digest]
        serving = ", ".join(f"{_name(workers[each.process_id])} ({each.engines})" for each in own if not each.error)
        refusing = "; ".join(f"{_name(workers[each.process_id])}: {each.error}" for each in own if each.error)
        if refusing:
            to_do = "Mend what it says, or run chexnode bundle rollback; the worker tries again by itself."
            found = f"served by {serving}, not by every worker" if serving else "no worker serves it: its images wait"
            return (warning if serving else failed)(found, to_do, refusing)
        if serving:
            return ok(f"served by {serving}")
        if bundle.active_seconds < _LOADING_SECONDS:
            return warning("no worker serves it yet, it was activated just now", "Look again in a minute.")
        return failed("no worker serves it: its images wait", "Look at the worker's log, and restart it.")

    return _of_each(bundles, of)


def _name(worker: Process) -> str:
    return f"process {worker.process_id} on {worker.host}"
