"""A study of one phantom on which two bundles have a say: tubes and regions by one, forty findings by the other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.bundles.registry import active_bundles
from node.ledger.ledger import now
from schemas.bundle import GloriHead, Manifest, ScoredClass
from schemas.codes import CXR_LT, NOT_FOR_CLINICAL_USE, Device, DistanceBasis, Finding, Segment, TubePosition
from schemas.result import (
    BundleReference,
    EngineReference,
    FindingResult,
    ImageResult,
    StudyResult,
    TipToCarina,
    TubeResult,
)
from schemas.tables import Bundle, Picture, Result, ResultImage, WorkState
from tests.node.bundles import activated
from tests.node.studies import add_study, bundle_digest, commit_result
from tests.page.conftest import ServedPage
from tests.pictures.synthetic import GRID, MANIFEST, hot_patch, model_output
from tests.support.phantoms import phantom, tip_of, write_phantom
from workers.output import ModelOutput
from workers.pictures import PicturesRequest, draw_pictures
from workers.placement import Placement

from node.triage import malpositioned_tube, urgency  # isort: skip

TUBES, FINDINGS = "tube-model", "forty-findings"
UNPROVEN = "Nobody has shown on chest radiographs that it works."
#: The other bundle has it as absent.
DISPUTED = Finding.CARDIOMEGALY
_ROWS, _COLUMNS = 512, 430


@dataclass(frozen=True)
class Reader:
    """One of the two bundles, and how it sees the phantom."""

    manifest: Manifest
    output: ModelOutput
    result: ImageResult
    engine: EngineReference


def activate_two(page: ServedPage) -> None:
    """Both bundles in the registry, active."""
    for name, manifest in ((TUBES, MANIFEST), (FINDINGS, forty_findings())):
        activated(page.ledger, name)
        document = manifest.model_copy(update={"name": name, "version": "1"}).model_dump_json()

        def change(session: Session, name: str = name, document: str = document) -> None:
            session.scalars(select(Bundle).where(Bundle.name == name)).one().manifest = document

        page.ledger.write(change)


def forty_findings() -> Manifest:
    """A bundle that scores all forty findings of the vocabulary, without a dense head."""
    classes = [ScoredClass(target=finding, operating_point=0.5) for finding in CXR_LT]
    head = GloriHead(file="heads/glori.safetensors", classes=classes)
    return MANIFEST.model_copy(update={"heads": [head], "unproven": UNPROVEN})


def add_study_of_two(page: ServedPage, folder: Path, uid: str, name: str = "Two^Opinions") -> None:
    """A study whose image both have analysed, with the pictures of both."""
    add_study(page.ledger, uid, name=name)
    for bundle in (FINDINGS, TUBES):
        commit_reading(page, folder, uid, bundle)


def commit_reading(page: ServedPage, folder: Path, uid: str, bundle: str) -> None:
    """The result of one of the two bundles, and its pictures."""
    with page.ledger.read() as session:
        manifest = next(each.manifest for each in active_bundles(session) if each.manifest.name == bundle)
    image, output = (_tubes if bundle == TUBES else _findings)(f"{uid}.1")
    commit_result(
        page.ledger,
        StudyResult(
            study_instance_uid=uid,
            version=1,
            bundle=BundleReference(
                name=bundle, version="1", digest=bundle_digest(bundle), cleared_for_clinical_use=False
            ),
            engine=EngineReference(
                name="torch" if bundle == TUBES else "openvino",
                device="cpu",
                precision="bfloat16",
                software_version="0.1",
            ),
            images=[image],
            urgency=urgency([image]),
            malpositioned_tube=malpositioned_tube([image]),
            notice=NOT_FOR_CLINICAL_USE,
        ),
    )
    path = folder / f"{uid}.dcm"
    if not path.exists():
        write_phantom(path, 22, "malpositioned", rows=_ROWS, columns=_COLUMNS)
    archive = draw_pictures(PicturesRequest(path, output.to_bytes(), manifest))

    def draw(session: Session) -> None:
        for made in session.scalars(
            select(ResultImage).join(Result, ResultImage.result_id == Result.id).where(Result.bundle_name == bundle)
        ):
            if made.picture is None:
                values = {"bundle_digest": bundle_digest(bundle), "due_at": now(), "created_at": now()}
                picture = Picture(result_image_id=made.id, state=WorkState.DONE, **values)
                picture.sha256 = page.store.put(archive)
                session.add(picture)

    page.ledger.write(draw)


def _tubes(uid: str) -> tuple[ImageResult, ModelOutput]:
    """The tube where it is, and four findings, of which one cannot be told."""
    truth = phantom(22, "malpositioned", _ROWS, _COLUMNS)
    tube = TubeResult(
        device=Device.ENDOTRACHEAL_TUBE,
        present=True,
        score=0.99,
        operating_point=0.5,
        calibrated=False,
        position=TubePosition.ABNORMAL,
        malposition_score=0.97,
        position_reason="The tip is 96 mm above the carina; 30 to 70 mm is normal.",
        tip=tip_of(truth),
        carina=truth.landmarks["carina"],
        tip_to_carina=TipToCarina(
            pixels=truth.landmarks["carina"].y - tip_of(truth).y, millimetres=96.0, basis=DistanceBasis.CALIBRATED
        ),
    )
    scores = {Finding.PLEURAL_EFFUSION: 0.3, DISPUTED: 0.2, Finding.CONSOLIDATION: 0.1}
    findings = [*(_finding(each, score) for each, score in scores.items()), _finding(Finding.NODULE, 0.5, None)]
    where = Placement.of(_ROWS, _COLUMNS, MANIFEST.preprocessing)
    regions = {Segment.RIGHT_LUNG: (60.0, 90.0, 190.0, 380.0), Segment.LEFT_LUNG: (240.0, 90.0, 370.0, 380.0)}
    return _image(uid, findings, [tube]), model_output(where, regions=regions)


def _findings(uid: str) -> tuple[ImageResult, ModelOutput]:
    """Forty findings, seven of them present."""
    scores = {each: 0.02 + 0.01 * number for number, each in enumerate(CXR_LT)}
    scores |= {DISPUTED: 0.93, Finding.PNEUMOTHORAX: 0.81, Finding.SUPPORT_DEVICES: 0.98, Finding.EDEMA: 0.66}
    scores |= {Finding.LUNG_OPACITY: 0.74, Finding.TORTUOUS_AORTA: 0.58, Finding.ENLARGED_CARDIOMEDIASTINUM: 0.71}
    unknown = {Finding.AZYGOS_LOBE, Finding.INFARCTION}
    findings = [_finding(each, score, None if each in unknown else 0.5) for each, score in scores.items()]
    attention = np.stack([hot_patch(3 + number % 18, 3 + number * 5 % 18) for number in range(len(CXR_LT))])
    assert attention.shape == (len(CXR_LT), GRID, GRID)
    output = ModelOutput(np.zeros(len(CXR_LT), np.float32), attention, np.zeros((0, 1, 1), np.float16))
    return _image(uid, findings, []), output


def _image(uid: str, findings: list[FindingResult], tubes: list[TubeResult]) -> ImageResult:
    return ImageResult(sop_instance_uid=uid, rows=_ROWS, columns=_COLUMNS, findings=findings, tubes=tubes, segments=[])


def _finding(finding: Finding, score: float, operating_point: float | None = 0.5) -> FindingResult:
    present = None if operating_point is None else score >= operating_point
    return FindingResult(
        finding=finding, score=score, operating_point=operating_point, calibrated=False, present=present
    )
