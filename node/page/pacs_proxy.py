"""The PACS for the viewer, under the page's own address: search (QIDO-RS) and retrieval (WADO-RS) of its DICOMweb root.

The viewer asks here and not the PACS, so that the PACS's credentials stay in the node, its REST API stays closed to
browsers, and no other origin is involved. Only GET of the resources of PS3.18 that `_RESOURCE` names is passed on.

Orthanc's DICOMweb plugin (1.7 with Orthanc 1.10, measured in tests/viewer/test_pacs_proxy.py) takes the values of a
search as they stand in the request, without percent-decoding (PS3.18 8.3.4 wants it), knows a list only by its commas,
and refuses bytes beyond ASCII. So a value goes on as it is where it means the same decoded or not; any other search of
studies is put to Orthanc's own /tools/find, whose answer becomes a list of Study Instance UIDs. Its answers to a search
are in Orthanc's default encoding, Latin-1, and lack all other letters: those of studies are completed the same way,
since OHIF asks for a patient's studies by the Patient ID that it was answered.
"""

import json
import re
import time
from asyncio import Semaphore
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated
from urllib.parse import unquote_to_bytes, urlsplit

import anyio
import httpx
import structlog
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from node.page.access_log import record
from node.page.context import Page, page_of
from node.page.viewer import pacs
from node.page.visitor import Reader, Visitor
from schemas.settings import OrthancDestination

log = structlog.get_logger()

PREFIX = "/pacs/"

_UID = r"[0-9]{1,39}(?:\.[0-9]{1,39}){0,31}"
#: Resources below the DICOMweb root (PS3.18 tables 10.4.1-1 and 10.6.1-1, and Orthanc's /bulk). No dots but those of
#: UIDs, so that nothing climbs out of the root.
_RESOURCE = re.compile(
    rf"(?P<level>studies|series|instances)"
    rf"|studies/{_UID}(?:/series/{_UID}(?:/instances/{_UID}(?:/frames/[0-9]+(?:,[0-9]+)*)?)?)?"
    rf"(?:/(?:metadata|rendered|thumbnail|(?P<below>series|instances)))?"
    rf"|studies/{_UID}/series/{_UID}/instances/{_UID}/bulk(?:data)?(?:/[0-9A-Fa-f]+)+"
)
#: Values that mean the same whether the PACS decodes them or not: neither %, +, & and # nor what has to be encoded.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~*^?:=@!$'()/;]*")
_UID_LIST = re.compile(rf"{_UID}(?:[,\\]{_UID})*")
_NAME_LIST = re.compile(r"[A-Za-z0-9]+(?:[,\\][A-Za-z0-9]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEY = re.compile(r"[A-Za-z0-9.]{1,64}")
#: Parameters of a search that match nothing (PS3.18 8.3.4.2 ff.).
_CONTROLS = {"limit", "offset", "includefield", "fuzzymatching"}
#: Studies that a search through /tools/find can have; more come only with a closer search. OHIF asks for 101.
_FOUND = 101
_UTF_8 = "ISO_IR 192"
#: Texts of a study in the answer to a search, with their keywords.
_TEXTS = {
    "00080050": "AccessionNumber",
    "00080090": "ReferringPhysicianName",
    "00081030": "StudyDescription",
    "00100010": "PatientName",
    "00100020": "PatientID",
}
#: Longest JSON that is taken in whole for its addresses to be rewritten (metadata of some 2,000 slices), and to be
#: parsed (a search of 101 studies has some 200 KB); how many are taken in at a time, over all visitors.
_JSON_BYTES = 16 << 20
_PARSED_BYTES = 4 << 20
_REWRITES = 4
_JSON = ("application/dicom+json", "application/json")
#: Headers of the PACS that are passed on; cookies, hop-by-hop headers and the server's name are not.
_ANSWERED = ("content-type", "content-length", "content-encoding")
_HEADERS = {
    # Patients' data stay out of the disk cache of a shared workstation.
    "Cache-Control": "private, no-store",
    # Whatever a stored object holds: nothing of it runs as this page.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_CONNECTIONS = 48
#: Requests of one visitor that are answered at a time, so that a few visitors cannot take all connections; how long one
#: more waits for its turn, and when it may come again.
_TURNS = 16
_TURN_SECONDS = 5.0
_COME_AGAIN_SECONDS = 2
#: One row of the access log per visitor and study in this time, one for searches; how many pairs are remembered.
_VIEWING_SECONDS = 900.0
_SEARCH_SECONDS = 60.0
_VIEWINGS = 10_000
_SLOW = "The PACS does not answer in time."


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        client: httpx.AsyncClient | None = getattr(app.state, "pacs_client", None)
        if client is not None:
            await client.aclose()


routes = APIRouter(lifespan=_lifespan)


@dataclass
class _Queue:
    """The requests of one visitor."""

    turns: Semaphore = field(default_factory=lambda: Semaphore(_TURNS))
    length: int = 0


class _State:
    """What the proxy of one application remembers."""

    def __init__(self) -> None:
        self.viewings = _Viewings()
        self.rewrites = Semaphore(_REWRITES)
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def turn(self, visitor: Visitor) -> AsyncIterator[None]:
        """The block runs when few enough requests of the visitor are under way. Raises HTTPException 503."""
        key = visitor.session or visitor.address
        queue = self._queues.setdefault(key, _Queue())
        queue.length += 1
        try:
            try:
                with anyio.fail_after(_TURN_SECONDS):
                    await queue.turns.acquire()
            except TimeoutError as error:
                again = {"Retry-After": str(_COME_AGAIN_SECONDS)}
                raise HTTPException(503, f"More than {_TURNS} requests at a time.", again) from error
            try:
                yield
            finally:
                queue.turns.release()
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[key]


def _state(app: FastAPI) -> _State:
    state: _State | None = getattr(app.state, "pacs_proxy", None)
    if state is None:
        state = app.state.pacs_proxy = _State()
    return state


async def _in_turn(request: Request, visitor: Reader) -> AsyncIterator[AsyncExitStack]:
    """The visitor's turn, until the last byte of the answer is sent; what is to be closed then goes on the stack."""
    async with _state(request.app).turn(visitor), AsyncExitStack() as stack:
        yield stack


@routes.get(PREFIX + "{path:path}", include_in_schema=False)
async def resource(
    request: Request, path: str, visitor: Reader, stack: Annotated[AsyncExitStack, Depends(_in_turn)]
) -> Response:
    """A resource of the PACS's DICOMweb root."""
    page = page_of(request)
    destination = pacs(page.settings)
    if destination is None:
        raise HTTPException(404, "There is no PACS with DICOMweb here.")
    matched = _RESOURCE.fullmatch(path)
    if matched is None:
        raise HTTPException(404, "No such resource: only search and retrieval by DICOMweb are passed on.")
    level = matched["level"] or matched["below"]
    asked = _Query.parse(request.scope["query_string"], search=level is not None)
    state = _state(request.app)
    if matched["level"]:
        asked = asked.bounded()
        await state.viewings.note_search(page, visitor)
    else:
        await state.viewings.note(page, visitor, path.split("/")[1])
    link = _Pacs(_client(request.app, destination), destination, state.rewrites, stack)
    if asked.awkward:
        if matched["level"] != "studies":
            raise HTTPException(400, "The PACS cannot be searched for such a value below studies.")
        found = await link.find_studies(asked)
        if not found:
            return Response("[]", headers=_HEADERS, media_type="application/dicom+json")
        asked = asked.for_studies(found)
    accept = request.headers.get("accept", "*/*")
    return await link.get(path, asked.encoded(), accept, complete=matched["level"] == "studies")


@dataclass(frozen=True)
class _Query:
    """A query string, decoded and checked."""

    #: Parameters that match nothing: paging, fields, rendering.
    controls: tuple[tuple[str, str], ...]
    #: Attributes to match, with values as they are meant.
    matches: tuple[tuple[str, str], ...]

    @staticmethod
    def parse(query_string: bytes, search: bool) -> "_Query":
        """Raises HTTPException 400 for what no honest client sends."""
        controls, matches = [], []
        for part in query_string.split(b"&"):
            if not part:
                continue
            raw_key, _, raw_value = part.partition(b"=")
            try:
                key, value = unquote_to_bytes(raw_key).decode(), unquote_to_bytes(raw_value).decode()
            except UnicodeDecodeError as error:
                raise HTTPException(400, "The query is not UTF-8.") from error
            if not _KEY.fullmatch(key) or _CONTROL.search(value):
                raise HTTPException(400, "The query holds what no attribute or value is made of.")
            if search and key.lower() not in _CONTROLS:
                matches.append((key, value))
            elif _PLAIN.fullmatch(value.replace(",", "")):
                controls.append((key, value))
            else:
                raise HTTPException(400, f"The value of {key} cannot be passed on.")
        return _Query(tuple(controls), tuple(matches))

    @property
    def awkward(self) -> bool:
        """Whether the PACS would misread a value."""
        return any(_sent(key, value) is None for key, value in self.matches)

    def for_studies(self, study_instance_uids: Sequence[str]) -> "_Query":
        """The same search, as one for these studies."""
        return _Query(self.controls, (("StudyInstanceUID", ",".join(study_instance_uids)),))

    def bounded(self) -> "_Query":
        """The same search with a limit, since one over the whole PACS may have any number of answers."""
        limits = [value for key, value in self.controls if key.lower() == "limit"]
        if not all(re.fullmatch("[0-9]{1,9}", each) for each in limits):
            raise HTTPException(400, "The limit is no number.")
        # To Orthanc, 0 means all.
        limit = min([_FOUND, *(int(each) for each in limits if int(each))])
        others = tuple(pair for pair in self.controls if pair[0].lower() != "limit")
        return replace(self, controls=(*others, ("limit", str(limit))))

    def encoded(self) -> str:
        """The query string for the PACS; values that it would misread must be gone."""
        pairs = [(key, _sent(key, value)) for key, value in self.matches] + list(self.controls)
        return "&".join(f"{key}={value}" for key, value in pairs)


def _sent(key: str, value: str) -> str | None:
    """The value as the PACS understands it, None where there is no such form."""
    if _UID_LIST.fullmatch(value) or (key in _LISTS and _NAME_LIST.fullmatch(value)):
        # PS3.18 8.3.4.1: a list of UIDs, by commas or backslashes.
        return value.replace("\\", ",")
    return value if _PLAIN.fullmatch(value) else None


#: Attributes of which the PACS takes a list (Modalities in Study).
_LISTS = {"ModalitiesInStudy", "00080061"}


class _Viewings:
    """Who looked at which study of late: a row of the access log for each, not for each of its frames."""

    def __init__(self) -> None:
        self._noted: OrderedDict[tuple[str, ...], float] = OrderedDict()

    async def note(self, page: Page, visitor: Visitor, study_instance_uid: str) -> None:
        await self._note(page, visitor, study_instance_uid, "", _VIEWING_SECONDS)

    async def note_search(self, page: Page, visitor: Visitor) -> None:
        """Not what was searched for: that would be a patient's name."""
        await self._note(page, visitor, "", "search", _SEARCH_SECONDS)

    async def _note(self, page: Page, visitor: Visitor, study_instance_uid: str, detail: str, seconds: float) -> None:
        key = (visitor.name, visitor.address, visitor.session, study_instance_uid)
        moment = time.monotonic()
        if moment - self._noted.get(key, float("-inf")) < seconds:
            return
        self._noted[key] = moment
        self._noted.move_to_end(key)
        if len(self._noted) > _VIEWINGS:
            self._noted.popitem(last=False)
        try:
            await run_in_threadpool(record, page, visitor, "viewer", study_instance_uid, detail)
        except BaseException:
            self._noted.pop(key, None)
            raise


def _client(app: FastAPI, destination: OrthancDestination) -> httpx.AsyncClient:
    """The one client of this application; connections are kept and bounded."""
    client: httpx.AsyncClient | None = getattr(app.state, "pacs_client", None)
    if client is None:
        password = destination.password.get_secret_value() if destination.password else ""
        client = app.state.pacs_client = httpx.AsyncClient(
            auth=(destination.username, password) if destination.username else None,
            timeout=httpx.Timeout(destination.timeout_seconds, connect=min(5.0, destination.timeout_seconds)),
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            # As stored: what would be packed here would be unpacked again a metre further on.
            headers={"Accept-Encoding": "identity"},
        )
    return client


class _Pacs:
    """Requests to the PACS; every failure is an HTTPException that says whose it is.

    Answers are closed by `stack` at the latest: a browser may go before the first byte of one is read.
    """

    def __init__(
        self, client: httpx.AsyncClient, destination: OrthancDestination, rewrites: Semaphore, stack: AsyncExitStack
    ) -> None:
        self._client = client
        self._rewrites = rewrites
        self._stack = stack
        self._url = destination.url.rstrip("/")
        self._root = f"{self._url}/{destination.dicomweb_root.strip('/')}"

    async def get(self, path: str, query: str, accept: str, complete: bool = False) -> Response:
        """GET of a resource below the DICOMweb root, streamed; JSON is rewritten to this proxy's addresses.

        With `complete`, the answer to a search of studies gets the texts that the PACS's encoding could not hold.
        """
        url = httpx.URL(f"{self._root}/{path}")
        target = url.raw_path + (f"?{query}".encode("ascii") if query else b"")
        # The target as it is: httpx would encode again what the PACS does not decode.
        request = self._client.build_request("GET", url, headers={"Accept": accept}, extensions={"target": target})
        answer = await self._send(request)
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() in _JSON:
            async with self._rewrites:
                content = await _whole(answer, _PARSED_BYTES if complete else _JSON_BYTES)
                content = await run_in_threadpool(self._rewritten, content)
                content = await self._completed(content) if complete else content
            return Response(content, headers=_HEADERS, media_type=answer.headers["content-type"])
        headers = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
        return StreamingResponse(_stream(answer), answer.status_code, {**headers, **_HEADERS})

    async def find_studies(self, asked: _Query) -> list[str]:
        """Study Instance UIDs of the studies that match, by Orthanc's own search."""
        query = {key: value.replace(",", "\\") if key in _LISTS else value for key, value in asked.matches}
        async with self._rewrites:
            return [each.study_instance_uid for each in await self._find(query)]

    async def _completed(self, content: bytes) -> bytes:
        """The answer to a search of studies with every letter of its texts (PS3.18 F.2; UTF-8)."""
        try:
            studies = await run_in_threadpool(json.loads, content)
            short = {_first(each, "0020000D"): each for each in studies if "00080005" in each and not _is_utf_8(each)}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise HTTPException(502, "The PACS's answer to a search is not understood.") from error
        if not short:
            return content
        try:
            whole = await self._find({"StudyInstanceUID": "\\".join(short)})
        except HTTPException as error:
            log.warning("names may lack letters", url=self._url, error=error.detail)
            return content
        for found in whole:
            study = short.get(found.study_instance_uid, {})
            study["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
            for tag, keyword in _TEXTS.items():
                if tag in study and found.texts.get(keyword):
                    study[tag]["Value"] = [_value(study[tag]["vr"], found.texts[keyword])]
        return (await run_in_threadpool(json.dumps, studies, ensure_ascii=False)).encode()

    async def _find(self, query: Mapping[str, str]) -> list["_Found"]:
        wanted = {"Level": "Study", "Expand": True, "CaseSensitive": False, "Limit": _FOUND, "Query": query}
        answer = await self._send(self._client.build_request("POST", f"{self._url}/tools/find", json=wanted))
        try:
            found = await run_in_threadpool(json.loads, await _whole(answer, _PARSED_BYTES))
            return [_Found(str(each["MainDicomTags"]["StudyInstanceUID"]), _texts(each)) for each in found]
        except (ValueError, TypeError, KeyError) as error:
            raise HTTPException(502, "The PACS's answer to a search is not understood.") from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer to the request, its body still to be read. Raises HTTPException unless it is a success."""
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.TimeoutException as error:
            log.warning("the PACS is too slow", url=self._url, error=type(error).__name__)
            raise HTTPException(504, _SLOW) from error
        except httpx.HTTPError as error:
            log.warning("the PACS cannot be reached", url=self._url, error=error)
            raise HTTPException(502, "The PACS cannot be reached.") from error
        self._stack.push_async_callback(answer.aclose)
        if answer.is_success:
            return answer
        await answer.aclose()
        status = answer.status_code
        log.warning("the PACS refuses", path=request.url.path, status=status)
        if status in (401, 403):
            # Not passed on as it is: the browser would ask the reader for the PACS's password.
            raise HTTPException(502, "The PACS refuses the node's credentials.")
        if 400 <= status < 500:
            raise HTTPException(status, f"The PACS answers HTTP {status}.")
        raise HTTPException(502, f"The PACS answers HTTP {status}.")

    def _rewritten(self, content: bytes) -> bytes:
        """JSON whose addresses of the PACS (Retrieve URL, BulkDataURI) are this proxy's."""
        root = re.escape(urlsplit(self._root).path.strip("/"))
        pattern = rb'"https?://[^"/\\]+/(?:[^"\\]*?/)?' + root.encode() + rb'/(studies/[^"\\]*)"'
        # A function, not a template: between its calls the interpreter lets the event loop go on.
        return re.sub(pattern, lambda found: b'"' + PREFIX.encode() + found[1] + b'"', content)


@dataclass(frozen=True)
class _Found:
    """A study that /tools/find has, with its main attributes by keyword."""

    study_instance_uid: str
    texts: Mapping[str, str]


def _texts(study: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {**study["PatientMainDicomTags"], **study["MainDicomTags"]}


def _first(attributes: Mapping[str, Mapping[str, Sequence[str]]], tag: str) -> str:
    return attributes[tag]["Value"][0]


def _is_utf_8(study: Mapping[str, Mapping[str, Sequence[str]]]) -> bool:
    return _first(study, "00080005") == _UTF_8


def _value(vr: str, text: str) -> str | dict[str, str]:
    """A value in the DICOM JSON Model (PS3.18 F.2.2): a person's name is an object of its groups."""
    if vr != "PN":
        return text
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: name for group, name in groups if name}


async def _whole(answer: httpx.Response, most: int) -> bytes:
    content = bytearray()
    try:
        async for part in _stream(answer, decoded=True):
            content += part
            if len(content) > most:
                raise HTTPException(502, "The PACS's answer is too long.")
    except httpx.TimeoutException as error:
        raise HTTPException(504, _SLOW) from error
    except httpx.HTTPError as error:
        raise HTTPException(502, "The PACS stopped in the middle of its answer.") from error
    return bytes(content)


async def _stream(answer: httpx.Response, decoded: bool = False) -> AsyncIterator[bytes]:
    """The body as it comes. An error in the middle ends the connection, so that the browser sees that it is short."""
    try:
        async for part in answer.aiter_bytes() if decoded else answer.aiter_raw():
            yield part
    except httpx.HTTPError as error:
        log.warning("the PACS stopped in the middle", path=answer.request.url.path, error=type(error).__name__)
        raise
    finally:
        await answer.aclose()
