"""Every check, run at the same time by subject; one entry point for `chexnode doctor` and the page."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain

from node.doctor.alerts import alerts_subject
from node.doctor.broker import broker_subject
from node.doctor.bundle import bundle_subject
from node.doctor.dicomweb import dicomweb_subject
from node.doctor.disk import disk_subject
from node.doctor.folder import folder_subject
from node.doctor.ledger import ledger_subject
from node.doctor.orthanc import orthanc_subject
from node.doctor.parts import parts_subject, work_subject
from node.doctor.ports import ports_subject
from node.doctor.receiver import receiver_subject
from node.doctor.settings_check import passwords, settings_subject
from node.doctor.storage_scp import storage_scp_subject
from node.doctor.store import store_subject
from node.doctor.verdict import Judge, Status, Subject, Verdict, failed, skipped
from schemas.errors import SettingsError
from schemas.settings import Destination, DicomDestination, DicomwebDestination, FolderDestination, Settings

_WITHOUT_SETTINGS = ("ports", "disk", "ledger", "broker", "parts", "work", "alerts", "receiver", "destination")


def run_checks(
    settings: Settings | SettingsError, *, store: bool = True, only: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Examine everything that `settings` name, or what can be examined without them; verdicts in a fixed order.

    Subjects run at the same time, each in a thread that is left behind when it hangs.

    Parameters
    ----------
    store
        Whether test objects are stored at the destinations and deleted again.
    only
        Subjects ("ledger"), checks ("ledger.clock") or prefixes of them ("destination"); empty: everything. What
        failed in the same subject is given too, since what was asked for builds on it.
    """
    wanted = [each for each in subjects(settings, store=store) if _wants(each.name, only)]
    if isinstance(settings, SettingsError) and "settings" not in {each.name for each in wanted}:
        wanted.insert(0, settings_subject(settings))
    judge = Judge(passwords(settings))
    started = [(subject, _start(subject, judge)) for subject in wanted]
    begin = time.monotonic()
    for subject, arriving in started:
        for verdict in _collect(subject, arriving, begin + subject.seconds):
            if _wants(verdict.name, only) or verdict.status == Status.FAILED:
                yield verdict


def subjects(settings: Settings | SettingsError, *, store: bool = True) -> list[Subject]:
    """Every subject, in the order in which things depend on each other."""
    if isinstance(settings, SettingsError):
        left_out = [_left_out(name) for name in _WITHOUT_SETTINGS]
        return [settings_subject(settings), *left_out, bundle_subject(settings)]
    return [
        settings_subject(settings),
        ports_subject(settings),
        disk_subject(settings),
        ledger_subject(settings),
        broker_subject(settings),
        *([store_subject(settings)] if settings.store.host or settings.store_urls else []),
        parts_subject(settings),
        work_subject(settings),
        alerts_subject(settings),
        bundle_subject(settings),
        receiver_subject(settings),
        *(
            _destination_subject(each, settings.dicom.ae_title, settings.dicom.calling_ae_titles, store=store)
            for each in settings.destinations
        ),
    ]


def names(settings: Settings | SettingsError) -> list[str]:
    """Everything that `only` may name."""
    each = ([subject.name, *(f"{subject.name}.{check}" for check in subject.checks)] for subject in subjects(settings))
    return sorted({"destination", *chain.from_iterable(each)})


def _destination_subject(destination: Destination, ae_title: str, callers: Sequence[str], *, store: bool) -> Subject:
    match destination:
        case FolderDestination():
            return folder_subject(destination, store=store)
        case DicomwebDestination():
            return dicomweb_subject(destination)
        case DicomDestination():
            return storage_scp_subject(destination, callers)
        case _:
            return orthanc_subject(destination, ae_title, store=store)


def _left_out(name: str) -> Subject:
    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge(name, lambda: skipped("not examined: the settings cannot be used"))

    return Subject(name, (), examine)


def _start(subject: Subject, judge: Judge) -> "queue.Queue[Verdict | None]":
    """Examine in a thread; None marks the end."""
    arriving: queue.Queue[Verdict | None] = queue.Queue()

    def run() -> None:
        try:
            for verdict in subject.examine(judge):
                arriving.put(verdict)
        except Exception as error:  # noqa: BLE001 - becomes a verdict
            said = f"{type(error).__name__}: {error}"
            finding = failed("not examined to the end", "This is a fault of CheXNode: report it with this line.", said)
            arriving.put(judge(subject.name, lambda: finding))
        finally:
            arriving.put(None)

    threading.Thread(target=run, name=f"doctor-{subject.name}", daemon=True).start()
    return arriving


def _collect(subject: Subject, arriving: "queue.Queue[Verdict | None]", deadline: float) -> Iterator[Verdict]:
    while True:
        try:
            verdict = arriving.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            found = f"not done within {subject.seconds:g} s, given up"
            yield Verdict(
                subject.name, Status.FAILED, found, "Something hangs there: look at its log.", subject.seconds
            )
            return
        if verdict is None:
            return
        yield verdict


def _wants(name: str, only: Sequence[str]) -> bool:
    """Whether `only` names this subject or check, one within it, or what it is within."""
    return not only or any(name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.") for each in only)
