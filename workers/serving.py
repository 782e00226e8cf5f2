"""The engines of a worker: one for each active bundle, changed over while work goes on.

A watcher looks at the registry (node/bundles/registry.py) twice a second. A new version is loaded beside the one that
serves, and that one finishes what it holds before it ends, so that a change costs no image. Used by the worker and its
tasks.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from node.bundles.files import fetch_files
from node.bundles.registry import ActiveBundle, active_bundles
from node.ledger.ledger import Ledger, now
from node.storage.stores import other_stores
from schemas.bundle import Manifest, read_manifest
from schemas.errors import BundleError, ChexnodeError
from schemas.settings import Settings
from schemas.tables import ServedBundle
from workers.devices import choose_devices
from workers.engine import Engine
from workers.engine_messages import Ready

log = structlog.get_logger()

_LOOK_SECONDS = 0.5
#: How long the end of the worker waits for a bundle that is being loaded.
_LAST_SECONDS = 5.0


@dataclass(eq=False)
class Served:
    """An active bundle and the engine that computes it."""

    digest: str
    manifest: Manifest
    engine: Engine
    ready: Sequence[Ready]
    #: Threads that may send an image to the engine at any moment.
    holders: int = field(default=0)


@dataclass(frozen=True)
class _Failure:
    """Why a bundle is not served, and when it is tried again (time.monotonic())."""

    error: str
    tries: int
    again_at: float


class Serving:
    """Engines of the active bundles.

    A bundle that does not load here, or computes something else than when it was made, is logged, told to the doctor
    and tried again later; the others are served all the same.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._home = settings.home
        self._stores = other_stores(settings)
        self._worker = settings.worker
        self._work = settings.work
        self._devices = choose_devices(settings.worker.device)
        self._changed = threading.Condition()
        self._served: dict[str, Served] = {}
        self._loading: set[str] = set()
        self._leaving: list[threading.Thread] = []
        self._failures: dict[str, _Failure] = {}
        self._stopped = threading.Event()
        self._process_id: int | None = None
        self._reported: list[tuple[str, str, str]] = []
        self._watcher = threading.Thread(target=self._watch, name="serving", daemon=True)

    def start(self) -> None:
        """Load the active bundles, or find out that one does not load, and watch the registry from then on."""
        self._look()
        with self._changed:
            self._changed.wait_for(lambda: not self._loading)
        self._watcher.start()

    def report_as(self, process_id: int) -> None:
        """Say in the ledger, under this row of `Process`, what is served here and why the rest is not."""
        self._process_id = process_id
        self._tend()

    @contextmanager
    def hold(self) -> Iterator[dict[str, Served]]:
        """What is served, by digest; none of it goes away while the block runs."""
        with self._changed:
            held = dict(self._served)
            for each in held.values():
                each.holders += 1
        try:
            yield held
        finally:
            with self._changed:
                for each in held.values():
                    each.holders -= 1
                self._changed.notify_all()

    def digests(self) -> list[str]:
        """Digests of the bundles that are served at this moment."""
        with self._changed:
            return list(self._served)

    def close(self) -> None:
        """Stop every engine; images that wait fail, and are tried again by whoever serves next."""
        self._stopped.set()
        if self._watcher.is_alive():
            self._watcher.join()
        with self._changed:
            # One that hangs while it loads is a process of its own and ends with this one.
            self._changed.wait_for(lambda: not self._loading, timeout=_LAST_SECONDS)
            served, self._served = list(self._served.values()), {}
        for each in served:
            each.engine.close()
        for thread in self._leaving:
            thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            self._tend()

    def _tend(self) -> None:
        """Serve what the registry says, and report; what fails now is tried again by the watcher."""
        try:
            self._look()
            self._report()
        except SQLAlchemyError as error:
            log.warning("the registry does not answer, trying again", error=type(error).__name__)
        except Exception:
            # Without the watcher no change of a bundle would ever be noticed.
            log.exception("the bundles could not be looked after, trying again")

    def _look(self) -> None:
        """Begin to load what became active, and let go what is no longer."""
        with self._ledger.read() as session:
            active = active_bundles(session)
        wanted = {each.digest: each for each in active}
        with self._changed:
            self._failures = {digest: each for digest, each in self._failures.items() if digest in wanted}
            waiting = {digest for digest, each in self._failures.items() if monotonic() < each.again_at}
            for digest in wanted.keys() - self._served.keys() - self._loading - waiting:
                self._loading.add(digest)
                name = f"load-{digest[:12]}"
                threading.Thread(target=self._load, args=(wanted[digest],), name=name, daemon=True).start()
            names = {each.manifest.name for each in active if each.digest not in self._served}
            for digest, served in list(self._served.items()):
                # The old version stays loaded until the new one serves: a rollback finds it there.
                if digest not in wanted and served.manifest.name not in names:
                    del self._served[digest]
                    self._let_go(served)

    def _load(self, bundle: ActiveBundle) -> None:
        """Start the bundle's engine in a thread of its own: one that hangs keeps no other from being served."""
        started = monotonic()
        served, said = None, ""
        try:
            served = self._start(bundle)
        except Exception as error:  # noqa: BLE001 - becomes the reason that the doctor gives
            said = str(error) if isinstance(error, ChexnodeError) else f"{type(error).__name__}: {error}"
            log.error("bundle not served", bundle=bundle.manifest.name, digest=bundle.digest[:12], error=said)
        with self._changed:
            failed = self._failures.pop(bundle.digest, None)
            if served is not None:
                self._served[bundle.digest] = served
            else:
                tries = failed.tries + 1 if failed else 1
                wait = min(self._work.backoff_maximum_seconds, self._work.backoff_seconds * 2.0 ** min(tries, 30))
                self._failures[bundle.digest] = _Failure(said, tries, monotonic() + wait)
            self._loading.discard(bundle.digest)
            self._changed.notify_all()
        if served is not None:
            log.info(
                "bundle served",
                bundle=bundle.manifest.name,
                version=bundle.manifest.version,
                digest=bundle.digest[:12],
                seconds=round(monotonic() - started, 2),
            )

    def _start(self, bundle: ActiveBundle) -> Served:
        folder = fetch_files(self._home, bundle.digest, self._stores).resolve()
        manifest = read_manifest(folder)
        engine = Engine(folder, manifest, self._devices, self._worker)
        try:
            ready = engine.start()
            if any(each.bundle_digest != bundle.digest for each in ready):
                raise BundleError(f"{folder} was changed: register the bundle again from where it came from.")
        except BaseException:
            engine.close()
            raise
        return Served(bundle.digest, manifest, engine, ready)

    def _let_go(self, served: Served) -> None:
        """Close the engine once nobody holds it; what it is at is finished."""

        def finish() -> None:
            with self._changed:
                self._changed.wait_for(lambda: served.holders == 0)
            served.engine.close(drain=True)
            log.info("bundle no longer served", bundle=served.manifest.name, digest=served.digest[:12])

        thread = threading.Thread(target=finish, name=f"close-{served.digest[:12]}")
        self._leaving = [each for each in self._leaving if each.is_alive()] + [thread]
        thread.start()

    def _report(self) -> None:
        """Write what changed since the last time."""
        with self._changed:
            lines = [(each.digest, _engines(each.ready), "") for each in self._served.values()]
            lines += [(digest, "", failure.error) for digest, failure in self._failures.items()]
        process_id = self._process_id
        if process_id is None or lines == self._reported:
            return

        def change(session: Session) -> None:
            session.execute(delete(ServedBundle).where(ServedBundle.process_id == process_id))
            session.add_all(
                ServedBundle(process_id=process_id, bundle_digest=digest, engines=engines, error=error, since=now())
                for digest, engines, error in lines
            )

        self._ledger.write(change)
        self._reported = lines


def _engines(ready: Sequence[Ready]) -> str:
    return ", ".join(f"{each.name} {each.precision} on {each.device}" for each in ready)
