"""From the pixels and the output of a model to the result of a study whose images were refused."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from schemas.bundle import Acceptance
from schemas.result import EngineReference, Urgency
from schemas.settings import ResultObject, SegmentationGeometry
from tests.pictures.synthetic import MANIFEST, PREPROCESSING, TARGETS, model_output, write_image
from tests.support.dicom_tools import dciodvfy_errors
from workers.assembly import Assembly, AssemblyRequest, ImageRequest, assemble
from workers.placement import Placement
from workers.results.source import ImageIdentity, ReportIdentity, keys_of

_ROWS, _COLUMNS = 300, 240


def assembled(folder: Path, images: list[NDArray[np.float32]], frontal: float, lateral: float) -> Assembly:
    """The result of a study of `images`, of which the model says the same: logits of what kind of image they are."""
    output = model_output(Placement.of(_ROWS, _COLUMNS, PREPROCESSING))
    logits = output.logits.copy()
    logits[TARGETS.index(Acceptance.FRONTAL_CHEST.value)] = frontal
    logits[TARGETS.index(Acceptance.LATERAL.value)] = lateral
    output = replace(output, logits=logits)
    requests = []
    for number, image in enumerate(images):
        path = write_image(folder / f"{number}.dcm", image)
        uid = f"2.25.{number + 1}"
        tracking = {key: f"2.25.9{index}" for index, key in enumerate(keys_of(MANIFEST))}
        identity = ImageIdentity(f"{uid}1", f"{uid}2", f"{uid}3", f"{uid}4", tracking)
        requests.append(ImageRequest(path, dcmread(path).SOPInstanceUID, output.to_bytes(), identity))
    return assemble(
        AssemblyRequest(
            study_instance_uid=dcmread(requests[0].path).StudyInstanceUID,
            version=1,
            manifest=MANIFEST,
            bundle_digest="0" * 64,
            engine=EngineReference(device="cpu", precision="float32", software_version="0"),
            images=requests,
            failed=[],
            report=ReportIdentity("2.25.6", "2.25.7"),
            content_time=datetime(2026, 1, 1),
            geometry=SegmentationGeometry.PLANES,
            secondary_capture=True,
            overlay_png=True,
        )
    )


def ramp() -> NDArray[np.float32]:
    return np.linspace(0, 1, _ROWS * _COLUMNS, dtype=np.float32).reshape(_ROWS, _COLUMNS)


def test_what_the_model_refuses_has_a_valid_report_that_says_so_and_no_segmentation(tmp_path: Path) -> None:
    refused = assembled(tmp_path, [ramp()], frontal=-3.0, lateral=2.0)
    (image,) = refused.document.images
    assert (image.refused, image.findings, image.tubes, image.segments) == (
        "lateral view (the model's reading)",
        [],
        [],
        [],
    )
    assert refused.document.urgency is Urgency.ROUTINE
    kinds = {built.kind: built.content for built in refused.objects}
    assert set(kinds) == {ResultObject.SECONDARY_CAPTURE, ResultObject.REPORT}
    path = tmp_path / "report.dcm"
    path.write_bytes(kinds[ResultObject.REPORT])
    assert dciodvfy_errors(path) == []
    assert b"was not analysed: lateral view (the model's reading)." in kinds[ResultObject.REPORT]
    accepted = assembled(tmp_path, [ramp()], frontal=3.0, lateral=-2.0)
    assert accepted.document.images[0].refused == ""
    assert accepted.document.images[0].findings
