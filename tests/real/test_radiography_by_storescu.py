"""All real radiography files through DCMTK's storescu: each ends as the table says, and none stops the node."""

from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from schemas.tables import Inference, Instance, Result, Series, Study, WorkState
from tests.real.radiography import EXPECTED, FOLDER
from tests.support.dicom_tools import dciodvfy_errors, storescu
from tests.support.live_node import LiveNode
from tests.support.processes import wait_for

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real DICOM files are not at {FOLDER}")

#: storescu's option that proposes a transfer syntax.
_PROPOSE = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
}


def send(live: LiveNode, path: Path) -> Instance:
    header = dcmread(path, stop_before_pixels=True)
    option = _PROPOSE.get(header.file_meta.TransferSyntaxUID)
    sent = storescu(live.port, [path], ["-R", *([option] if option else [])])
    assert sent.returncode == 0 and "Success" in sent.stdout + sent.stderr, sent.stdout + sent.stderr
    with live.ledger.read() as session:
        return session.scalars(select(Instance).where(Instance.sop_instance_uid == header.SOPInstanceUID)).one()


def finished_inference(live: LiveNode, instance: Instance) -> Inference | None:
    with live.ledger.read() as session:
        query = select(Inference).where(Inference.pixel_digest == instance.pixel_digest)
        inference = session.scalars(query).one()
    return inference if inference.state in (WorkState.DONE, WorkState.FAILED) else None


def study_of(live: LiveNode, instance: Instance) -> str:
    with live.ledger.read() as session:
        query = select(Study.study_instance_uid).join(Series).where(Series.id == instance.series_id)
        return session.scalars(query).one()


@pytest.mark.parametrize("name", EXPECTED)
def test_each_file_ends_as_expected(live: LiveNode, name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    instance = send(live, FOLDER / name)
    assert (instance.selected, instance.route_reason) == (expected.reason == "selected", expected.reason)
    assert instance.route_explanation.endswith(".")
    if not instance.selected:
        return
    inference = wait_for("the inference ends", lambda: finished_inference(live, instance))
    if not expected.readable:
        assert inference.state == WorkState.FAILED and "pixel data" in inference.error.lower()
        return
    assert inference.state == WorkState.DONE, inference.error
    for stored in live.wait_delivered(study_of(live, instance)):
        assert stored.sha256
        copy = tmp_path / "object.dcm"
        copy.write_bytes((live.home / "objects" / stored.sha256[:2] / stored.sha256[2:4] / stored.sha256).read_bytes())
        assert dciodvfy_errors(copy) == []


def test_the_node_goes_on_after_all_of_them(live: LiveNode) -> None:
    assert all(running.alive for running in live.running)
    with live.ledger.read() as session:
        assert session.scalars(select(Result).where(Result.state == WorkState.FAILED)).all() == []
