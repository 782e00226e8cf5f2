"""`chexnode demo`: a node with a local Orthanc, two phantom studies sent, analysed, delivered, read back and shown."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from rich.console import Console
from rich.live import Live
from sqlalchemy import select

from node.delivery.orthanc import TimedOrthanc
from node.demo_table import StudyProgress, progress_table, read_progress
from node.ledger.ledger import Ledger
from node.local_orthanc import find_orthanc, orthanc_part, wait_alive
from node.monitoring.logs import configure_logs
from node.monitoring.presence import present_roles
from node.network.send import send_files
from node.results.readback import read_back
from node.supervisor import Part, Supervisor, check_port, only_one, stop_signals
from node.up import make_supervisor, page_address
from schemas.errors import ChexnodeError
from schemas.settings import SETTINGS_VARIABLE, FolderDestination, OrthancDestination, Settings, load_settings
from schemas.tables import Study

CALLING_AE_TITLE = "CHEXDEMO"
_DESTINATION = "demo"
_START_SECONDS = 180.0
_RESULT_SECONDS = 120.0
#: Phantoms of the demonstration: (what it shows, `chexnode phantom` arguments).
_PHANTOMS = (
    ("well placed tube", ("--tube", "well-placed", "--seed", "17", "--age", "57")),
    ("malpositioned tube", ("--tube", "malpositioned", "--seed", "34", "--age", "74")),
)


class DemoFailedError(ChexnodeError):
    """The demonstration did not come to its end."""


@click.command("demo")
@click.option("--once", is_flag=True, help="End with status 0 once the results were read back from the PACS.")
@click.option("--home", type=click.Path(path_type=Path), default=Path("chexnode-demo"), show_default=True)
@click.option("--orthanc-port", type=int, default=18042, show_default=True, help="HTTP port of the local Orthanc.")
def demo_command(once: bool, home: Path, orthanc_port: int) -> None:
    """Start a node with a local Orthanc, send two phantom studies and show the results; serve until Ctrl-C.

    Without an installed Orthanc, the results go to HOME/results.
    """
    configure_logs()
    console = Console()
    with only_one(home):
        executable = find_orthanc()
        settings = _demo_settings(home, orthanc_port if executable else None)
        before: list[Part] = []
        if executable:
            check_port("0.0.0.0", orthanc_port, "The local Orthanc", "--orthanc-port (make run: ORTHANC_PORT)")
            before.append(orthanc_part(executable, home / "orthanc", orthanc_port))
        else:
            console.print(f"[yellow]No Orthanc here:[/] results go to the folder {home / 'results'}.")
        supervisor = make_supervisor(settings, before)
        try:
            with stop_signals():
                supervisor.start()
                files = _make_phantoms(home / "phantoms", console)
                _wait_until_ready(supervisor, settings, orthanc_port if executable else None, console)
                _run(supervisor, settings, files, console)
                if once:
                    return
                _addresses(settings, console)
                supervisor.serve()
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            supervisor.stop()


def _demo_settings(home: Path, orthanc_port: int | None) -> Settings:
    """Write the demonstration's settings file and make it the one in force, here and in every part."""
    path = (home / "chexnode.toml").resolve()
    destination = (
        f'kind = "orthanc"\nurl = "http://127.0.0.1:{orthanc_port}"\n'
        if orthanc_port
        else f'kind = "folder"\npath = "{(home / "results").resolve()}"\n'
    )
    path.write_text(
        f'home = "{home.resolve()}"\n\n[dicom]\ncalling_ae_titles = ["{CALLING_AE_TITLE}"]\n\n'
        f'[[destinations]]\nname = "{_DESTINATION}"\n{destination}'
        'objects = ["segmentation", "report", "secondary_capture"]\n'
    )
    os.environ[SETTINGS_VARIABLE] = str(path)
    return load_settings()


def _make_phantoms(folder: Path, console: Console) -> list[Path]:
    """Two phantom studies, new ones each time: the same study sent twice would rightly be a duplicate."""
    files = []
    for number, (label, arguments) in enumerate(_PHANTOMS, start=1):
        target = folder / str(number)
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-P", "-m", "schemas.command_line", "phantom", "--out", str(target), "--count", "1"]
        with console.status(f"making a phantom radiograph: {label}"):
            made = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if made.returncode:
            raise DemoFailedError(f"chexnode phantom ended with status {made.returncode}: {made.stderr.strip()}")
        (path,) = target.glob("*.dcm")
        dataset = dcmread(path)
        dataset.StudyInstanceUID = generate_uid(prefix=None)
        dataset.SeriesInstanceUID = generate_uid(prefix=None)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        dataset.StudyDescription = f"Phantom, {label}"
        dataset.PatientName, dataset.PatientID = f"Phantom^{label.capitalize()}", f"PHANTOM-{number}"
        path.unlink()
        path = target / "phantom.dcm"
        dataset.save_as(path)
        files.append(path)
    return files


def _wait_until_ready(supervisor: Supervisor, settings: Settings, orthanc_port: int | None, console: Console) -> None:
    ledger = Ledger(settings.resolved_ledger_url)

    conditions: list[tuple[str, Callable[[], bool]]] = [
        ("the receiver answers C-ECHO", lambda: _echo(settings)),
        ("the delivery worker is there", lambda: "delivery" in present_roles(ledger)),
        ("the worklist page is there", lambda: "page" in present_roles(ledger)),
        (
            "the inference worker has loaded the model and passed its self-test",
            lambda: "worker" in present_roles(ledger),
        ),
    ]
    if orthanc_port:
        conditions.insert(0, ("Orthanc answers", lambda: wait_alive(f"http://127.0.0.1:{orthanc_port}", 1)))
    for what, condition in conditions:
        with console.status(f"waiting until {what}"):
            _wait(supervisor, what, condition, _START_SECONDS)
        console.print(f"[green]✓[/] {what}")


def _wait(supervisor: Supervisor, what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        supervisor.check()
        if time.monotonic() > deadline:
            logs = ", ".join(str(supervisor.log_path(part)) for part in supervisor.parts)
            raise DemoFailedError(f"Not within {seconds:g} s: {what}. The logs may say why: {logs}")
        time.sleep(0.05)


def _echo(settings: Settings) -> bool:
    entity = AE(ae_title=CALLING_AE_TITLE)
    entity.connection_timeout = 2
    entity.add_requested_context(Verification)
    association = entity.associate(settings.dicom.host, settings.dicom.port, ae_title=settings.dicom.ae_title)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status.get("Status") == 0)


def _run(supervisor: Supervisor, settings: Settings, files: list[Path], console: Console) -> None:
    """Send the studies, show how they get on, read the results back."""
    dicom = settings.dicom
    for destination in settings.destinations:
        if isinstance(destination, OrthancDestination):
            # As a modality would: the results refer to images that the PACS holds.
            client = TimedOrthanc(destination.url, None, None, destination.timeout_seconds)
            for path in files:
                client.upload(path.read_bytes())
    sent = send_files(files, dicom.host, dicom.port, dicom.ae_title, CALLING_AE_TITLE)
    for each in sent:
        if not each.accepted:
            raise DemoFailedError(f"{each.path} was answered {each.status}: {each.comment}")
    uids = [str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in files]
    ledger = Ledger(settings.resolved_ledger_url)
    names = [label for label, _ in _PHANTOMS]
    rows: list[StudyProgress] = []
    with Live(console=console, refresh_per_second=10) as live:

        def finished() -> bool:
            nonlocal rows
            with ledger.read() as session:
                ids = [session.scalars(select(Study.id).where(Study.study_instance_uid == uid)).one() for uid in uids]
                rows = [read_progress(session, study_id, name) for study_id, name in zip(ids, names, strict=True)]
            live.update(progress_table(rows))
            return all(row.finished for row in rows)

        _wait(supervisor, "both studies are delivered", finished, _RESULT_SECONDS)
    console.print()
    failures = [failure for row in rows for failure in row.failures]
    if failures:
        raise DemoFailedError(" ".join(failures))
    objects = 0
    for uid in uids:
        objects += read_back(ledger, settings, uid)
    console.print(f"[green]✓[/] {objects} objects read back from the destination, equal to what was sent")


def _addresses(settings: Settings, console: Console) -> None:
    dicom = settings.dicom
    command = Path(sys.executable).with_name("chexnode")
    lines = [
        f"worklist      [bold]{page_address(settings)}[/]",
        f"DICOM node    [bold]{dicom.ae_title}[/] at {dicom.host}:{dicom.port} (calling AE title {CALLING_AE_TITLE})",
        f"send a file   {command} send FILE --as {CALLING_AE_TITLE} --to {dicom.ae_title}@{dicom.host}:{dicom.port}",
    ]
    for destination in settings.destinations:
        if isinstance(destination, OrthancDestination):
            lines.append(f"Orthanc       {destination.url}/app/explorer.html")
            lines.append(f"DICOMweb      {destination.url}/{destination.dicomweb_root}/studies")
        elif isinstance(destination, FolderDestination):
            lines.append(f"results       {destination.path}")
    lines.append(f"logs          {settings.home / 'logs'}")
    lines.append(f"what it holds {command} --settings {os.environ[SETTINGS_VARIABLE]} db status")
    lines.append(f"what is wrong {command} --settings {os.environ[SETTINGS_VARIABLE]} doctor")
    lines.append("Each run adds two studies; remove the folder to start afresh.")
    console.print()
    for line in lines:
        # Without a frame: it would break the commands that one wants to copy.
        console.print(line, soft_wrap=True)
    console.print("[bold]serving until Ctrl-C[/]")
