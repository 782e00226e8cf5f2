"""Is the model bundle readable, and does it compute here what it computed when it was made?"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, skipped, warning
from schemas.bundle import Manifest, bundle_digest, bundle_folder, read_manifest
from schemas.codes import NOT_FOR_CLINICAL_USE
from schemas.errors import BundleError, SettingsError
from schemas.settings import Settings, WorkerSettings

#: What a worker has and a receiver host need not have.
_WORKER_PACKAGES = ("torch", "timm", "safetensors")


def bundle_subject(settings: Settings | SettingsError) -> Subject:
    """Checks of the configured bundle; of the shipped one when the settings cannot be read."""
    worker = settings.worker if isinstance(settings, Settings) else WorkerSettings()
    folder = bundle_folder(worker.bundle)
    which = "" if isinstance(settings, Settings) else " (the shipped one; which one is configured cannot be told)"
    seconds = worker.engine_start_seconds

    def examine(judge: Judge) -> Iterator[Verdict]:
        try:
            manifest = read_manifest(folder)
        except BundleError as error:
            finding = failed("it cannot be used", "Correct worker.bundle, or fetch the bundle again.", error.detail)
            yield judge("bundle.manifest", lambda: finding)
            return
        yield judge("bundle.manifest", lambda: _manifest(manifest, folder, which))
        yield judge("bundle.self-test", lambda: _self_test(folder, seconds))
        yield judge("bundle.clearance", lambda: _clearance(manifest))

    return Subject("bundle", ("manifest", "self-test", "clearance"), examine, seconds + 30)


def _manifest(manifest: Manifest, folder: Path, which: str) -> Finding:
    return ok(f"{manifest.name} {manifest.version}, digest {bundle_digest(folder)[:16]}...{which}")


def _self_test(folder: Path, seconds: float) -> Finding:
    """`chexnode bundle verify` as a process: nothing of a worker is imported here."""
    missing = [name for name in _WORKER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return skipped(
            f"a worker's packages are not installed on this host ({', '.join(missing)}): run it on a worker's host"
        )
    command = [sys.executable, "-P", "-m", "schemas.command_line", "bundle", "verify", str(folder)]
    to_do = "Fetch the bundle again, or install the versions of constraints.txt; no worker starts with it."
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return failed(f"not done within {seconds:g} s (worker.engine_start_seconds)", to_do)
    if run.returncode:
        said = run.stderr.strip().removeprefix("chexnode: ").splitlines()
        return failed("not passed", to_do, said[-1] if said else f"status {run.returncode}")
    return ok(run.stdout.strip().splitlines()[-1].removeprefix("self-test ") + " (on the CPU)")


def _clearance(manifest: Manifest) -> Finding:
    if manifest.cleared_for_clinical_use:
        return ok("its makers have cleared it for clinical use")
    return warning(
        f"{NOT_FOR_CLINICAL_USE.lower()}", "Use its results for tests only; every report and page says so as well."
    )
