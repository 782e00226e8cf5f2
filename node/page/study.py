"""The page of one study, and the pictures of its images."""

import json
import zipfile
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.responses import Response

from node.page.access_log import record
from node.page.context import Page, Uid, page_of
from node.page.rendering import render
from node.page.viewer import study_link
from node.page.visitor import Reader
from node.study_record import AnalysedImage, StudyRecord, read_study
from node.worklist import place_in_words
from schemas.errors import ObjectMissingError, StudyNotFoundError
from schemas.pictures import INDEX, PIXELS, PictureIndex
from schemas.tables import Picture

routes = APIRouter()

_MEDIA_TYPES = {
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".gz": "application/octet-stream",
}


@routes.get("/studies/{study_instance_uid}")
def study(request: Request, visitor: Reader, study_instance_uid: Uid, shown: int = 0) -> Response:
    """The page, or for htmx the part of it that changes: `shown` is the version of the result that the page shows."""
    page = page_of(request)
    with page.ledger.read() as session:
        found = read_study(session, study_instance_uid)
    values = _values(page, found)
    if "HX-Request" not in request.headers:
        record(page, visitor, "study", study_instance_uid)
        return render(request, "study.html", shown=values["stamp"], newer=False, **values)
    # An image must not change under the eyes that read it: the page says that there is something newer.
    return render(request, "study_live.html", shown=shown, newer=shown != values["stamp"], **values)


def _values(page: Page, found: StudyRecord) -> dict[str, Any]:
    study = found.row.study
    return {
        "record": found,
        "stamp": _stamp(found),
        "row": found.row,
        "study": study,
        "place": place_in_words(found.row, page.settings.triage.allowed_minutes),
        "link": study_link(page, study.study_instance_uid, study.patient_id),
        "index": lambda image: _index(page, image),
    }


def _stamp(found: StudyRecord) -> int:
    """A number that changes when the images or what is said of them change: version and number of drawn images."""
    drawn = sum(image.picture is not None and image.picture.sha256 is not None for image in found.analysed)
    return (found.version or 0) * 1000 + drawn + sum(500 for image in found.analysed if image.failure)


def _index(page: Page, image: AnalysedImage) -> PictureIndex | None:
    """What the archive of the image's pictures holds; None before it is drawn, or when it is lost."""
    if image.picture is None or image.picture.sha256 is None:
        return None
    try:
        with zipfile.ZipFile(page.store.path(image.picture.sha256)) as archive:
            return PictureIndex.model_validate(json.loads(archive.read(INDEX)))
    except (OSError, KeyError, zipfile.BadZipFile):
        return None


@routes.get("/pictures/{sha256}/{name:path}")
def picture(request: Request, visitor: Reader, sha256: str, name: str) -> Response:
    """One member of an archive of pictures. It never changes: its address holds its digest."""
    page = page_of(request)
    with page.ledger.read() as session:
        if session.scalar(select(Picture.id).where(Picture.sha256 == sha256)) is None:
            raise StudyNotFoundError("There is no such picture.")
    try:
        with zipfile.ZipFile(page.store.path(sha256)) as archive:
            content = archive.read(name)
    except KeyError as error:
        raise StudyNotFoundError(f"The picture has no {name[:64]}.") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ObjectMissingError(f"The pictures {sha256} are lost or damaged.") from error
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    if name == PIXELS:
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=_MEDIA_TYPES[name[name.rindex(".") :]], headers=headers)
