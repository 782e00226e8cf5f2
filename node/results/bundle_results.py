"""The current results of studies, one of each bundle that has one: documents, pictures, and what the bundle is.

Read by the worklist (node/worklist.py), on which the page of a study and the API build.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import structlog
from pydantic import ValidationError
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from node.bundles.registry import parsed_manifest
from schemas.bundle import LinearHead, Manifest
from schemas.result import ImageResult, StudyResult
from schemas.tables import Bundle, Instance, Picture, Result, ResultImage, WorkState

log = structlog.get_logger()


@dataclass(frozen=True)
class BundleResult:
    """What one bundle says of a study, for those who show it."""

    result: Result
    document: StudyResult
    #: The bundle's manifest; None when the registry does not know it, or it cannot be read.
    manifest: Manifest | None
    #: What it says of the images that are still what it was made from.
    images: list[ImageResult]
    #: Pictures of its images, drawn or not yet, by SOP Instance UID.
    pictures: dict[str, Picture]

    @property
    def name(self) -> str:
        return self.result.bundle_name

    @property
    def title(self) -> str:
        """Name and version of the bundle."""
        return f"{self.document.bundle.name} {self.document.bundle.version}"

    @property
    def unproven(self) -> str:
        """What nobody has shown of the bundle; "" for most."""
        return self.document.bundle.unproven or (self.manifest.unproven if self.manifest else "")

    @property
    def has_evidence(self) -> bool:
        """Whether its pictures have evidence maps: a linear probe looks nowhere."""
        return self.manifest is None or not isinstance(self.manifest.classifier, LinearHead | None)


@dataclass(frozen=True)
class StudyResults:
    """Rows of the results of a study that count: current, to be made, or given up; the oldest first."""

    rows: list[Result]
    #: Documents of the current ones, by key; not of those that cannot be read.
    documents: dict[int, StudyResult]

    @property
    def current(self) -> list[Result]:
        """Those that can be read, by name of their bundle."""
        return self._by_name(each for each in self.rows if each.id in self.documents)

    @property
    def unreadable(self) -> list[Result]:
        """Current ones whose documents another version of this software wrote, by name of their bundle."""
        return self._by_name(each for each in self.rows if each.current and each.id not in self.documents)

    @staticmethod
    def _by_name(results: Iterable[Result]) -> list[Result]:
        return sorted(results, key=lambda each: each.bundle_name)


def study_results(session: Session, study_ids: Iterable[int]) -> dict[int, StudyResults]:
    """Study key -> its results, for every study."""
    found = {key: StudyResults([], {}) for key in study_ids}
    unfinished = Result.state.in_([WorkState.DUE, WorkState.LEASED, WorkState.FAILED])
    for result in session.scalars(
        select(Result).where(Result.study_id.in_(list(found)), or_(Result.current, unfinished)).order_by(Result.id)
    ):
        of_study = found[result.study_id]
        of_study.rows.append(result)
        if result.current and (document := read_document(result)):
            of_study.documents[result.id] = document
    return found


def read_document(result: Result) -> StudyResult | None:
    """What the result says; None, which is logged, when this software cannot read it (newer, or damaged)."""
    try:
        return StudyResult.model_validate_json(result.document or "")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        _log_unreadable(result.id, result.bundle_name, f"{where}: {first['msg']}" if where else first["msg"])
        return None


@lru_cache(maxsize=1024)
def _log_unreadable(result_id: int, bundle: str, reason: str) -> None:
    # Cached, so that it is said once and not with every look at the list.
    log.error("result not readable by this version: update CheXNode", result=result_id, bundle=bundle, reason=reason)


def pictures(session: Session, results: Iterable[Result]) -> dict[int, dict[str, Picture]]:
    """Result key -> SOP Instance UID -> pictures."""
    found: dict[int, dict[str, Picture]] = {}
    for result_id, sop_instance_uid, picture in session.execute(
        select(ResultImage.result_id, Instance.sop_instance_uid, Picture)
        .join(Picture, Picture.result_image_id == ResultImage.id)
        .join(Instance, ResultImage.instance_id == Instance.id)
        .where(ResultImage.result_id.in_([result.id for result in results]))
    ):
        found.setdefault(result_id, {})[sop_instance_uid] = picture
    return found


def manifests(session: Session, digests: Iterable[str]) -> dict[str, Manifest]:
    """Bundle digest -> manifest, of those that the registry knows."""
    known = session.execute(select(Bundle.digest, Bundle.manifest).where(Bundle.digest.in_(set(digests))))
    read = {digest: parsed_manifest(text) for digest, text in known}
    return {digest: manifest for digest, manifest in read.items() if manifest}
