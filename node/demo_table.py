"""How a study gets on, as the demonstration shows it: one row per study, read from the ledger."""

from dataclasses import dataclass, field

from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.results.foremost import enumerated, ranked, tubes_first
from node.results.score_words import score_number
from node.results.tube_words import distance_words, position_words, short_name
from schemas.codes import TubePosition
from schemas.result import StudyResult
from schemas.settings import ResultObject
from schemas.tables import Delivery, Inference, Instance, Result, Series, StoredObject, WorkState

#: Findings that are called present, of one study.
_LINES = 6
#: Green only what lies well: not what nobody could judge.
_STYLES: dict[TubePosition | None, str] = {
    TubePosition.ABNORMAL: "bold red",
    TubePosition.BORDERLINE: "yellow",
    TubePosition.NORMAL: "green",
}


@dataclass(frozen=True)
class StudyProgress:
    """State of one study."""

    name: str
    stage: str
    finished: bool
    document: StudyResult | None = None
    #: "2 SEG, 1 SR" of the delivered objects.
    objects: str = ""
    #: From the last byte of the study to the destination's answer for the report.
    seconds: float | None = None
    failures: list[str] = field(default_factory=list)


def read_progress(session: Session, study_id: int, name: str) -> StudyProgress:
    """The progress of one study. A failure of an analysis or a given-up delivery also finishes it."""
    images = session.execute(
        select(Instance, Inference)
        .join(Series, Instance.series_id == Series.id)
        .outerjoin(Inference, Inference.pixel_digest == Instance.pixel_digest)
        .where(Series.study_id == study_id)
    ).all()
    set_aside = [instance.route_explanation for instance, _ in images if not instance.selected]
    failures = set_aside + [
        inference.error for _, inference in images if inference and inference.state == WorkState.FAILED
    ]
    result = session.scalars(
        select(Result).where(Result.study_id == study_id, Result.current).order_by(Result.id)
    ).first()
    if failures:
        return StudyProgress(name, "failed", True, failures=failures)
    if result is None or result.document is None:
        return StudyProgress(name, "analysing", False)
    document = StudyResult.model_validate_json(result.document)
    deliveries = session.execute(
        select(Delivery, StoredObject)
        .join(StoredObject, Delivery.object_id == StoredObject.id)
        .where(Delivery.result_id == result.id)
    ).all()
    failures = [delivery.error for delivery, _ in deliveries if delivery.state == WorkState.FAILED]
    if failures:
        return StudyProgress(name, "not delivered", True, document, failures=failures)
    if any(delivery.state != WorkState.DONE for delivery, _ in deliveries):
        return StudyProgress(name, "delivering", False, document)
    report = max(delivery.finished_at or 0 for delivery, stored in deliveries if stored.kind == ResultObject.REPORT)
    last_byte = max(instance.received_at for instance, _ in images)
    kinds = [stored.kind for _, stored in deliveries]
    short = {ResultObject.SEGMENTATION: "SEG", ResultObject.SECONDARY_CAPTURE: "SC", ResultObject.REPORT: "SR"}
    objects = ", ".join(f"{kinds.count(kind)} {label}" for kind, label in short.items() if kind in kinds)
    return StudyProgress(name, "delivered", True, document, objects, report - last_byte)


def progress_table(rows: list[StudyProgress]) -> Table:
    """The table of the demonstration."""
    notices = {row.document.notice for row in rows if row.document and row.document.notice}
    table = Table(caption=" ".join(sorted(notices)).upper() or None, caption_style="bold yellow")
    for column in ("study", "findings (score)", "tube", "urgency", "objects stored", "last byte to SR"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            _findings(row.document),
            _tubes(row.document),
            row.document.urgency.upper() if row.document else f"[dim]{row.stage}[/]",
            row.objects or f"[dim]{row.stage}[/]",
            f"{row.seconds:.2f} s" if row.seconds is not None else "",
        )
    return table


def _findings(document: StudyResult | None) -> str:
    if document is None:
        return ""
    refused = [f"[yellow]not analysed: {image.refused}[/]" for image in document.images if image.refused]
    if len(refused) == len(document.images):
        return "\n".join(refused)
    findings = ranked(finding for image in document.images for finding in image.findings)
    present = [f"{each.finding.code.meaning} ({score_number(each)})" for each in findings if each.present]
    lines = present[:_LINES]
    if len(present) > _LINES:
        lines.append(f"and {len(present) - _LINES} more")
    undetermined = enumerated(each.finding.code.meaning.lower() for each in findings if each.present is None)
    if undetermined:
        lines.append(f"[dim]undetermined: {undetermined}[/]")
    return "\n".join([*refused, *(lines or ["none above its operating point"])])


def _tubes(document: StudyResult | None) -> str:
    if document is None:
        return ""
    lines = []
    for image in document.images:
        for tube in tubes_first(image.tubes):
            if not tube.present:
                lines.append(f"no {tube.device.code.meaning.lower()}")
                continue
            style = _STYLES.get(tube.position, "dim")
            tip = f", tip {distance_words(tube.tip_to_carina)}" if tube.tip_to_carina else ""
            lines.append(f"{short_name(tube.device)} [{style}]{position_words(tube)}[/]{tip}")
    return "\n".join(lines)
