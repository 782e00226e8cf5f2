"""The OHIF viewer under /viewer/, and the link that opens a study in it.

Without an installed viewer the link goes to the PACS's own page of the study (docs/decisions/011-viewer.md).
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from node.page.context import Page, page_of
from node.page.rendering import FOLDER
from node.page.viewer_package import PREFIX, default_folder
from node.page.visitor import Reader
from schemas.settings import OrthancDestination, Settings

routes = APIRouter()

_CONFIGURATION = FOLDER / "static" / "viewer" / "app-config.js"
#: The host's own table of types is not relied on: a module or WebAssembly of another type is not run.
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/manifest+json",
    ".woff2": "font/woff2",
}
#: A name with the digest of its content in it: another build has another name.
_HASHED = re.compile(r"(^|\.)[0-9a-f]{16}\.[a-z0-9]+$")
#: The viewer talks to this server alone. 'unsafe-eval' is for the array library that it reads segmentations with (which
#: writes its own code) and for WebAssembly (decoders); 'unsafe-inline' for three lines of script in its index.html and
#: for the style attributes of its components; blob: for its workers.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    # A page of its own process: workers share memory then (SharedArrayBuffer).
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Link:
    label: str
    href: str


def study_link(page: Page, study_instance_uid: str, patient_id: str) -> Link | None:
    """Where to look at the study's images: OHIF, else the PACS's own page of it; None where there is no Orthanc."""
    destination = pacs(page.settings)
    if destination is None:
        return None
    if viewer_folder(page.settings) is not None:
        return Link("Open in OHIF", f"{PREFIX}viewer?StudyInstanceUIDs={quote(study_instance_uid, safe='')}")
    root = (destination.page_url or destination.url).rstrip("/")
    identifier = orthanc_study(patient_id, study_instance_uid)
    return Link("Open in Orthanc", f"{root}/app/explorer.html#study?uuid={identifier}")


def orthanc_study(patient_id: str, study_instance_uid: str) -> str:
    """Orthanc's identifier of a study: SHA-1 of Patient ID and Study Instance UID, in five groups.

    Orthanc Book, "Orthanc identifiers"; that the text is UTF-8 whatever the object's character set is, was measured
    (tests/viewer/test_study_link.py).
    """
    digest = hashlib.sha1(f"{patient_id}|{study_instance_uid}".encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))


def pacs(settings: Settings) -> OrthancDestination | None:
    """The PACS whose studies are opened: the first Orthanc among the destinations."""
    return next((each for each in settings.destinations if isinstance(each, OrthancDestination)), None)


def viewer_folder(settings: Settings) -> Path | None:
    """The folder of the OHIF build, or None where it is not installed."""
    folder = settings.page.viewer or default_folder()
    return folder if (folder / "index.html").is_file() else None


@routes.get(PREFIX + "{path:path}", include_in_schema=False)
async def viewer_file(request: Request, path: str, visitor: Reader) -> Response:
    """A file of the viewer; index.html for every address that the viewer itself makes sense of."""
    page = page_of(request)
    folder = viewer_folder(page.settings)
    if folder is None or pacs(page.settings) is None:
        raise HTTPException(404, "There is no viewer here: it needs an Orthanc destination, and `make viewer`.")
    if not path:
        # Studies are listed on the page; the viewer's own list is switched off.
        return RedirectResponse("/")
    if path == "app-config.js":
        folder = _CONFIGURATION.parent
    name = path if PurePosixPath(path).suffix else "index.html"
    return await _ViewerFiles(directory=folder).get_response(name, request.scope)


class _ViewerFiles(StaticFiles):
    """Files with the viewer's headers, compressed where a gzip lies beside them."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        path, asked = Path(full_path), Headers(scope=scope)
        headers = {**_HEADERS, "Vary": "Accept-Encoding"}
        # One week: a new release of the page may lay the same build out differently.
        headers["Cache-Control"] = "private, max-age=604800, immutable" if _HASHED.search(path.name) else "no-cache"
        compressed = path.with_name(path.name + ".gz")
        media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        if "gzip" in asked.get("accept-encoding", "") and compressed.is_file():
            path, stat_result = compressed, compressed.stat()
            headers["Content-Encoding"] = "gzip"
        response = FileResponse(path, status_code, headers, media_type, stat_result=stat_result)
        return NotModifiedResponse(response.headers) if self.is_not_modified(response.headers, asked) else response
