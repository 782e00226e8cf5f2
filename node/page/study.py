"""The page of one study, and the pictures of its images."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from starlette.responses import Response

from node.page.access_log import record
from node.page.context import Page, Uid, page_of
from node.page.rendering import render
from node.page.viewer import study_link
from node.page.visitor import Reader
from node.reading import next_to_read
from node.results.study_record import Reading, StudyRecord, read_study
from node.worklist import place_in_words
from schemas.errors import ObjectMissingError, StoreUnavailableError, StudyNotFoundError
from schemas.pictures import INDEX, PIXELS, PictureIndex
from schemas.tables import Picture

routes = APIRouter()

_SHA256 = re.compile("[0-9a-f]{64}")
_MEDIA_TYPES = {
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".gz": "application/octet-stream",
}


@dataclass(frozen=True)
class Drawn:
    """The pictures of an image under one bundle."""

    reading: Reading
    index: PictureIndex

    @property
    def base(self) -> str:
        """Where they are served."""
        picture = self.reading.picture
        return f"/pictures/{picture.sha256}" if picture else ""


@routes.get("/studies/{study_instance_uid}")
def study(
    request: Request, visitor: Reader, study_instance_uid: Uid, shown: Annotated[str, Query(max_length=16)] = ""
) -> Response:
    """The page, or for htmx the part of it that changes: `shown` is the stamp of what the page shows."""
    page = page_of(request)
    with page.ledger.read() as session:
        found = read_study(session, study_instance_uid)
        next_uid = next_to_read(session, visitor.name, apart_from=study_instance_uid)
    values = _values(page, found, next_uid)
    if "HX-Request" not in request.headers:
        record(page, visitor, "study", study_instance_uid)
        return render(request, "study.html", shown=values["stamp"], newer=False, **values)
    # An image must not change under the eyes that read it: the page says that there is something newer.
    return render(request, "study_live.html", shown=shown, newer=shown != values["stamp"], **values)


def _values(page: Page, found: StudyRecord, next_uid: str | None) -> dict[str, Any]:
    study = found.row.study
    return {
        "record": found,
        "stamp": _stamp(found),
        "row": found.row,
        "study": study,
        "place": place_in_words(found.row, page.settings.triage.allowed_minutes),
        "next_uid": next_uid,
        "link": study_link(page, study.study_instance_uid, study.patient_id),
        "drawn": lambda readings: _drawn(page, readings),
    }


def _stamp(found: StudyRecord) -> str:
    """Changes with everything of which a reader must not see an old state: images, what is said of them, patient."""
    study = found.row.study
    parts: list[object] = [found.row.seen, study.patient_name, study.patient_id, len(found.set_aside)]
    for image in found.selected:
        drawn = [each.picture.sha256 for each in image.readings if each.picture]
        parts += [image.state.instance.pixel_digest, image.state.parts, drawn]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _drawn(page: Page, readings: list[Reading]) -> list[Drawn]:
    """Those of an image's pictures that are there, in the order of `readings`."""
    found = [(reading, _index(page, reading.picture)) for reading in readings]
    return [Drawn(reading, index) for reading, index in found if index]


def _index(page: Page, picture: Picture | None) -> PictureIndex | None:
    """What the archive of pictures holds; None before it is drawn, when it is lost, or its host does not answer."""
    if picture is None or picture.sha256 is None:
        return None
    try:
        with page.store.file(picture.sha256) as path, zipfile.ZipFile(path) as archive:
            return PictureIndex.model_validate(json.loads(archive.read(INDEX)))
    except (OSError, ObjectMissingError, StoreUnavailableError, KeyError, zipfile.BadZipFile):
        return None


@routes.get("/pictures/{sha256}/{name:path}")
def picture(request: Request, visitor: Reader, sha256: str, name: str) -> Response:
    """One member of an archive of pictures. It never changes, but the browser asks each time whether it may show it."""
    page = page_of(request)
    if not _SHA256.fullmatch(sha256):
        raise StudyNotFoundError("There is no such picture.")
    with page.ledger.read() as session:
        if session.scalar(select(Picture.id).where(Picture.sha256 == sha256)) is None:
            raise StudyNotFoundError("There is no such picture.")
    try:
        with page.store.file(sha256) as path, zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            # On a shared workstation a radiograph must not come out of the disk cache for whoever sits there next: it
            # is shown after the server has said that this visitor may see it (RFC 9111 5.2.2.4).
            headers = {"Cache-Control": "private, no-cache", "ETag": f'"{sha256}/{member.filename}"'}
            if _is_kept(request, headers["ETag"]):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
            content = archive.read(member)
    except KeyError as error:
        raise StudyNotFoundError(f"The picture has no {name[:64]}.") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ObjectMissingError(f"The pictures {sha256} are lost or damaged.") from error
    if name == PIXELS:
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=_MEDIA_TYPES[name[name.rindex(".") :]], headers=headers)


def _is_kept(request: Request, etag: str) -> bool:
    """Whether the browser has it already (If-None-Match, RFC 9110 13.1.2; a proxy may have made the tag weak)."""
    given = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    return etag in given or "*" in given
