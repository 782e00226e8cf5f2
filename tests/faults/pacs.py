"""A PACS that misbehaves: an HTTP proxy in front of a real Orthanc, which a test tells how to behave."""

import re
import threading
import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import requests
from pydicom import Dataset, dcmread

_SLOW_SECONDS = 1.0
_PART = re.compile(rb"\r\n\r\n(.*?)\r\n--", re.DOTALL)
#: Headers of a connection, not of a message (RFC 9110 section 7.6.1), and what is computed anew.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Behaviour(StrEnum):
    """What the PACS does with what it is sent."""

    WELL = "well"
    #: Nobody listens at its port.
    DOWN = "down"
    #: It answers late.
    SLOW = "slow"
    #: It stores nothing and answers failure reason 0xA700, out of resources.
    OUT_OF_RESOURCES = "out of resources"
    #: It stores nothing and answers failure reason 0xC000, cannot understand.
    CANNOT_UNDERSTAND = "cannot understand"
    #: It stores everything and closes the connection without an answer.
    CLOSING = "closing"


_REASONS = {Behaviour.OUT_OF_RESOURCES: 0xA700, Behaviour.CANNOT_UNDERSTAND: 0xC000}


class MisbehavingPacs:
    """Forwards to the Orthanc at `url`; `behave` says how."""

    def __init__(self, url: str, port: int) -> None:
        self._upstream = url
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._behaviour = Behaviour.WELL
        self._server: ThreadingHTTPServer | None = None
        #: How often each SOP instance was stored.
        self.stored: Counter[str] = Counter()
        self.behave(Behaviour.WELL)

    def behave(self, behaviour: Behaviour) -> None:
        """From the next request on."""
        self._behaviour = behaviour
        if behaviour is Behaviour.DOWN:
            self.close()
        elif self._server is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            # One connection per request: a PACS that is down is down for all of them at once.
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                pacs._answer(self)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Silent."""

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        behaviour = self._behaviour
        if behaviour is Behaviour.SLOW:
            time.sleep(_SLOW_SECONDS)
        if handler.command == "POST" and behaviour in _REASONS:
            body = _refusal(content, _REASONS[behaviour]).to_json().encode()
            _reply(handler, 409, body, {"Content-Type": "application/dicom+json"})
            return
        response = requests.request(
            handler.command,
            self._upstream + handler.path,
            data=content,
            headers={name: value for name, value in handler.headers.items() if name.lower() not in _HOP},
            timeout=30,
        )
        if handler.command == "POST" and response.ok:
            self.stored.update(each.SOPInstanceUID for each in _objects(content))
        if behaviour is Behaviour.CLOSING and handler.command == "POST":
            handler.connection.close()
            return
        headers = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
        _reply(handler, response.status_code, response.content, headers)


def _reply(handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
    handler.send_response_only(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    # Who was killed meanwhile does not hear the answer.
    with suppress(OSError):
        handler.end_headers()
        handler.wfile.write(content)


def _objects(content: bytes) -> list[Dataset]:
    """Headers of the objects in a STOW-RS body (multipart/related), or of the one that is uploaded as it is."""
    parts = [content] if content[128:132] == b"DICM" else _PART.findall(content)
    return [dcmread(BytesIO(part), stop_before_pixels=True) for part in parts if part[128:132] == b"DICM"]


def _refusal(content: bytes, reason: int) -> Dataset:
    """The answer to a STOW-RS request of which nothing was stored (PS3.18 annex I.2)."""
    answer = Dataset()
    answer.FailedSOPSequence = []
    for each in _objects(content):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = each.SOPClassUID, each.SOPInstanceUID
        item.FailureReason = reason
        answer.FailedSOPSequence.append(item)
    return answer
