"""Pictures of a node as its users run it: drawn by its worker, and again after a kill -9."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import select

from node.storage.object_store import FolderObjectStore
from schemas.result import StudyResult
from schemas.tables import Picture, Result, ResultImage, Study, WorkState
from tests.conftest import Mode
from tests.faults.launcher import FOLDER, Action, Orders
from tests.faults.states import BY_NAME
from tests.pictures.synthetic import TARGETS, Drawn
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for


@pytest.fixture
def node(mode: Mode, tmp_path: Path) -> Iterator[LiveNode]:
    folder = f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{tmp_path / "out"}"\n'
    live = LiveNode(tmp_path / "home", mode.ledger_url(), mode.broker_url(), folder)
    try:
        yield live
    finally:
        live.stop()


def wait_drawn(live: LiveNode, sent: Dataset) -> tuple[StudyResult, Picture]:
    """The committed result of a study of one image, and its picture, once drawn."""

    def drawn() -> tuple[StudyResult, Picture] | None:
        with live.ledger.read() as session:
            query = select(Result, Picture).join(Study).join(ResultImage, ResultImage.result_id == Result.id)
            row = session.execute(
                query.join(Picture).where(
                    Study.study_instance_uid == sent.StudyInstanceUID, Picture.state == WorkState.DONE
                )
            ).one_or_none()
        return row and (StudyResult.model_validate_json(row[0].document or ""), row[1])

    return wait_for("the pictures are drawn", drawn, 90)


def assert_pictures_of(live: LiveNode, sent: Dataset) -> Picture:
    document, picture = wait_drawn(live, sent)
    (image,) = document.images
    assert picture.sha256
    found = Drawn(FolderObjectStore(live.home / "objects").get(picture.sha256))
    assert (found.index.rows, found.index.columns) == (image.rows, image.columns)
    assert {each.segment for each in found.index.masks} == {each.segment for each in image.segments if each.pixels}
    assert [each.target for each in found.index.evidence] == TARGETS
    return picture


@pytest.mark.parametrize("state", ["after claim of a picture", "before picture commit"])
def test_a_worker_killed_over_its_pictures_leaves_the_report_and_draws_them_when_it_is_back(
    node: LiveNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    node.start("node")
    monkeypatch.setenv(FOLDER, str(tmp_path / "faults"))
    Orders(tmp_path / "faults" / "orders").give(BY_NAME[state], Action.KILL)
    dying = node.launch([sys.executable, "-m", "tests.faults.launcher", "worker"], "dying-worker")
    sent = write_phantom(tmp_path / "a.dcm", seed=12, tube="malpositioned")
    (status,) = node.send(tmp_path / "a.dcm")
    assert status.status == 0
    assert dying.process.wait(90) == -signal.SIGKILL
    with node.ledger.read() as session:
        result = session.scalars(select(Result)).one()
        assert (result.state, result.current) == (WorkState.DONE, True)
        assert session.scalars(select(Picture)).one().state == WorkState.LEASED
    node.start("worker")
    assert assert_pictures_of(node, sent).attempts == 2
    with node.ledger.read() as session:
        again = session.scalars(select(Result)).one()
        assert again.document == result.document
