"""kill -9 at the seams: what was acknowledged is analysed, delivered, and there exactly once; nothing waits for ever.

Each test starts the part that is to die with one function replaced by a kill -9 of its own process, waits for the
death, starts the part anew and looks at the PACS from outside.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from sqlalchemy import select

from schemas.tables import Inference, Reception, Result, WorkState
from tests.conftest import Mode
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc
from tests.support.phantoms import write_phantom
from tests.support.processes import Running, wait_for

_PARTS = ("node", "worker", "delivery")


@pytest.fixture
def crashing(mode: Mode, orthanc: Orthanc, tmp_path: Path) -> Iterator[LiveNode]:
    node = LiveNode(tmp_path / "home", mode.ledger_url(), mode.broker_url(), orthanc_destination(orthanc.url))
    try:
        yield node
    finally:
        node.stop()


def start_dying(live: LiveNode, part: str, owner: str, function: str, *, after: bool = False) -> Running:
    """Start `part` so that it dies at its first call of owner.function (owner: module or module:class), or after it."""
    module, _, name = owner.partition(":")
    target = f"module.{name}" if name else "module"
    code = (
        "import importlib, os, signal, sys\n"
        "from schemas.command_line import main\n"
        f"module = importlib.import_module({module!r})\n"
        f"original = getattr({target}, {function!r})\n"
        "def die(*arguments, **keywords):\n"
        f"    {after} and original(*arguments, **keywords)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"setattr({target}, {function!r}, die)\n"
        f"sys.argv = ['chexnode', {part!r}]\n"
        "main()\n"
    )
    return live.launch([sys.executable, "-c", code], f"dying-{part}")


def assert_once(live: LiveNode, orthanc: Orthanc, sent: Dataset) -> None:
    """One reception, one inference, one current report, and in the PACS one SR and one SEG."""
    live.wait_delivered(sent.StudyInstanceUID)
    with live.ledger.read() as session:
        receptions = session.scalars(select(Reception).where(Reception.sop_instance_uid == sent.SOPInstanceUID)).all()
        assert len(receptions) == 1
        assert [each.state for each in session.scalars(select(Inference))] == [WorkState.DONE]
        assert [each.current for each in session.scalars(select(Result))] == [True]
    found = DICOMwebClient(f"{orthanc.url}/dicom-web").search_for_instances(sent.StudyInstanceUID)
    classes = [instance["00080016"]["Value"][0] for instance in found]
    assert sorted(classes) == sorted([Comprehensive3DSRStorage, SegmentationStorage])


def test_worker_killed_in_mid_inference(crashing: LiveNode, orthanc: Orthanc, tmp_path: Path) -> None:
    _, worker, _ = crashing.start(*_PARTS)
    children = session_of(worker.process.pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    sent = write_phantom(tmp_path / "a.dcm", seed=21)
    (status,) = crashing.send(tmp_path / "a.dcm")
    assert status.status == 0

    def leased() -> bool:
        with crashing.ledger.read() as session:
            return session.scalar(select(Inference.state)) == WorkState.LEASED

    wait_for("the inference is claimed", leased)
    worker.kill()
    for child in children:
        os.kill(child, signal.SIGCONT)
    crashing.start("worker")
    assert_once(crashing, orthanc, sent)
    wait_for("engine and pool of the dead worker are gone", lambda: not any(map(is_running, children)))


@pytest.mark.parametrize(
    ("function", "after"),
    [
        pytest.param("record", False, id="between store and ledger"),
        pytest.param("take", True, id="between ledger and queue"),
    ],
)
def test_node_killed_before_it_could_answer(
    crashing: LiveNode, orthanc: Orthanc, tmp_path: Path, function: str, after: bool
) -> None:
    crashing.start("worker", "delivery")
    node = start_dying(crashing, "node", "node.reception:ReceptionDesk", function, after=after)
    crashing.wait_present([node], ["node"])
    sent = write_phantom(tmp_path / "a.dcm", seed=22)
    (status,) = crashing.send(tmp_path / "a.dcm")
    assert status.status is None  # nothing was promised
    assert node.process.wait(20) == -signal.SIGKILL
    crashing.start("node")
    assert_once(crashing, orthanc, sent)
    # The sender, who heard nothing, sends again.
    (status,) = crashing.send(tmp_path / "a.dcm")
    assert status.status == 0
    assert_once(crashing, orthanc, sent)


@pytest.mark.parametrize(
    ("part", "owner", "function"),
    [
        pytest.param("worker", "workers.tasks", "plan_results", id="before the result is planned"),
        pytest.param("worker", "workers.tasks:Tasks", "_commit", id="between result objects and their commit"),
        pytest.param("delivery", "node.delivery.worker", "complete", id="between the PACS's answer and its record"),
    ],
)
def test_worker_or_delivery_killed_between_two_commits(
    crashing: LiveNode, orthanc: Orthanc, tmp_path: Path, part: str, owner: str, function: str
) -> None:
    crashing.start(*(each for each in _PARTS if each != part))
    dying = start_dying(crashing, part, owner, function)
    sent = write_phantom(tmp_path / "a.dcm", seed=23)
    (status,) = crashing.send(tmp_path / "a.dcm")
    assert status.status == 0
    assert dying.process.wait(60) == -signal.SIGKILL
    crashing.start(part)
    assert_once(crashing, orthanc, sent)


def session_of(leader: int) -> list[int]:
    """Processes of the session that `leader` leads, without itself."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and int(folder.name) != leader:
            members.append(int(folder.name))
    return members


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
