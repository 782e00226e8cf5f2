"""The logs: one line per event, JSON where it is wanted, and no patient in any of them, whatever goes wrong."""

import ast
import json
import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from node.monitoring.logs import words_of
from schemas.errors import DeliveryError
from schemas.tables import Delivery, DeliveryState
from tests.monitoring.conftest import Watched
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

NAME = "YamadaKwq^TaroZx=山田渡^太郎介=やまだ^たろう"
PATIENT_ID, BIRTH_DATE, ACCESSION = "PID-83746291", "19470213", "ACC5571930"
#: As they may stand in a log: as they are, escaped, or as bytes of their character set.
MARKS = [
    *("YamadaKwq", "TaroZx", "山田渡", "太郎介", "やまだ", PATIENT_ID, BIRTH_DATE, ACCESSION),
    json.dumps("山田")[1:-1],
    repr("山田渡".encode())[2:-1],
]


def found_in(said: str) -> list[str]:
    return [mark for mark in MARKS if mark.lower() in said.lower()]


# -- one process ------------------------------------------------------------------------------------------------------

_EVERYTHING_GOES_WRONG = """
    import logging, threading, warnings
    import structlog
    from node.monitoring.logs import configure_logs
    from schemas.errors import DeliveryError

    configure_logs()
    log = structlog.get_logger()

    def convert(value):
        return int(value)

    def nested():
        try:
            convert("山田渡")
        except ValueError as error:
            raise KeyError("TaroZx") from error

    log.info("received", study="1.2.3")
    log.error("given up", error=DeliveryError("It answered HTTP 400.", said="no room for 山田渡"))
    try:
        nested()
    except KeyError as error:
        log.exception("unexpected error")
        log.warning("tried again", error=error)
        logging.getLogger("celery.app.trace").error(
            "Task %(name)s raised: %(exc)s", {"name": "analysis", "exc": repr(error)}, exc_info=True
        )
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).error("invalid value for PN: 山田渡")
    warnings.warn("The value 山田渡 is no date")
    logging.captureWarnings(True)
    thread = threading.Thread(target=nested, name="reader")
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_whatever_a_library_says_the_log_names_its_kind_and_place_alone(log_format: str) -> None:
    environment = {**os.environ, "CHEXNODE_LOG_FORMAT": log_format, "CHEXNODE_LOG_LEVEL": "debug"}
    command = [sys.executable, "-c", textwrap.dedent(_EVERYTHING_GOES_WRONG)]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stderr
    assert found_in(said) == []
    for expected in (
        "1.2.3",
        "It answered HTTP 400.",
        "in convert",
        "ValueError",
        "KeyError",
        "reader",
        "Task analysis",
    ):
        assert expected in said
    if log_format == "json":
        events = [json.loads(line) for line in said.splitlines()]
        assert {"received", "given up", "unexpected error"} <= {event["event"] for event in events}
        assert all({"level", "timestamp"} <= set(event) for event in events)


def test_the_ledger_keeps_the_words_that_the_log_leaves_out() -> None:
    error = DeliveryError("It answered HTTP 400.", said="no room for 山田渡")
    assert "山田渡" in str(error)
    assert words_of(error) == "The destination did not take the object. It answered HTTP 400."


def test_a_row_that_the_database_refuses_is_not_in_the_log(watched: Watched) -> None:
    insert = text("INSERT INTO study (study_instance_uid, patient_name) VALUES ('1.2', :name)")
    with pytest.raises(IntegrityError) as refused, watched.ledger.engine.begin() as connection:
        connection.execute(insert, {"name": NAME})
    if watched.ledger.engine.dialect.name == "postgresql":
        assert "山田渡" in str(refused.value)  # PostgreSQL shows the row that it refuses
    assert found_in(words_of(refused.value)) == []
    assert "IntegrityError" in words_of(refused.value)


# -- the whole chain --------------------------------------------------------------------------------------------------


class _Quoting(BaseHTTPRequestHandler):
    """A PACS that refuses everything and says whose it was."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = f"cannot store {NAME}, born {BIRTH_DATE}, {PATIENT_ID}, {ACCESSION}".encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def quoting_pacs() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quoting)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    server.shutdown()


@pytest.fixture
def talkative_node(tmp_path: Path, quoting_pacs: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveNode]:
    """Every part of a node at debug level, with a destination that works and one that quotes what it refuses."""
    monkeypatch.setenv("CHEXNODE_LOG_LEVEL", "debug")
    monkeypatch.setenv("CHEXNODE_LOG_FORMAT", "json")
    destinations = (
        f'[[destinations]]\nname = "folder"\nkind = "folder"\npath = "{tmp_path / "results"}"\n'
        f'[[destinations]]\nname = "quoting"\nkind = "dicomweb"\nurl = "{quoting_pacs}"\n'
    )
    node = LiveNode(tmp_path / "home", "", "", destinations)
    try:
        node.start("node", "page", "worker", "delivery")
        yield node
    finally:
        node.stop()


def _of_the_patient(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = NAME, PATIENT_ID
    dataset.PatientBirthDate, dataset.AccessionNumber = BIRTH_DATE, ACCESSION


def _scramble(path: Path) -> None:
    """Put the name where numbers and dates belong: what reads them stumbles over it."""
    content = path.read_bytes()
    for value, name in ((b"12345678.9\\98765432.1", b"YamadaKwqq\\TaroZxTaro"), (b"19990807", b"TaroZxZx")):
        assert len(value) == len(name)
        assert value in content
        content = content.replace(value, name)
    path.write_bytes(content)


def _with_numbers(dataset: Dataset) -> None:
    _of_the_patient(dataset)
    dataset.PixelSpacing = ["12345678.9", "98765432.1"]
    dataset.StudyDate = dataset.AcquisitionDate = "19990807"


def test_no_log_of_any_part_names_the_patient_whatever_goes_wrong(talkative_node: LiveNode, tmp_path: Path) -> None:
    node = talkative_node
    good = write_phantom(tmp_path / "good.dcm", seed=3, change=_of_the_patient)
    scrambled = write_phantom(tmp_path / "scrambled.dcm", seed=4, change=_with_numbers)
    _scramble(tmp_path / "scrambled.dcm")
    unidentified = write_phantom(tmp_path / "unidentified.dcm", seed=4, change=_of_the_patient)
    damaged = dcmread(tmp_path / "unidentified.dcm")
    damaged.StudyInstanceUID = "1.2.YamadaKwq"
    damaged.save_as(tmp_path / "unidentified.dcm")
    unrecorded = write_phantom(tmp_path / "unrecorded.dcm", seed=4, change=_of_the_patient)
    with node.ledger.engine.begin() as connection:
        # A database that says which row it refuses, as PostgreSQL does.
        connection.exec_driver_sql(
            f"CREATE TRIGGER refusing BEFORE INSERT ON instance WHEN NEW.sop_instance_uid = "
            f"'{unrecorded.SOPInstanceUID}' BEGIN SELECT RAISE(ABORT, 'Failing row contains ({NAME})'); END"
        )
    names = ("good", "scrambled", "unidentified", "unrecorded")
    sent = [node.send(tmp_path / f"{name}.dcm")[0] for name in names]
    assert [each.status for each in sent] == [0x0000, 0x0000, 0xA900, 0xA700]
    for address in (f"/?search={urllib.parse.quote('山田渡')}", f"/api/worklist?limit={PATIENT_ID}", "/api/studies/x"):
        try:
            urllib.request.urlopen(node.page_url + address).read()
        except urllib.error.HTTPError as error:
            assert error.code < 500, error.code

    def settled() -> bool:
        with node.ledger.read() as session:
            rows = session.execute(select(Delivery.destination, Delivery.state)).all()
        ends = {"folder": DeliveryState.DONE, "quoting": DeliveryState.FAILED}
        return len({name for name, _ in rows}) == 2 and all(ends[name] == state for name, state in rows)

    wait_for("results delivered to the folder and refused by the other", settled, 120)
    logs = {path.name: path.read_text() for path in node.home.glob("*.log")}
    assert set(logs) == {"node.log", "page.log", "worker.log", "delivery.log"}
    assert [(name, found_in(said)) for name, said in logs.items() if found_in(said)] == []
    # It went wrong as it should have, and the logs say so.
    assert good.StudyInstanceUID in logs["node.log"]
    assert scrambled.StudyInstanceUID in logs["node.log"]
    assert unidentified.SOPInstanceUID in logs["node.log"]
    assert "IntegrityError" in logs["node.log"]
    assert "answered HTTP 400" in logs["delivery.log"]
    # The operator finds the words in the ledger.
    with node.ledger.read() as session:
        refused = select(Delivery.error).where(Delivery.destination == "quoting").limit(1)
        assert PATIENT_ID in session.scalars(refused).one()
    for said in logs.values():
        for line in said.splitlines():
            json.loads(line)


# -- the code ---------------------------------------------------------------------------------------------------------

_PACKAGES = ("node", "workers", "training")
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def test_no_line_of_code_logs_an_exception_as_text() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    found = []
    for path in (path for package in _PACKAGES for path in (root / package).rglob("*.py")):
        for handler in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)):
            for call in (node for node in ast.walk(handler) if isinstance(node, ast.Call)):
                logs = isinstance(call.func, ast.Attribute) and call.func.attr in _LEVELS
                if logs and handler.name and any(_is_text_of(handler.name, each.value) for each in call.keywords):
                    found.append(f"{path.relative_to(root)}:{call.lineno}")
    assert found == [], "pass the exception itself (error=error): node/monitoring/logs.py says of it what may be said"


def _is_text_of(name: str, value: ast.expr) -> bool:
    """str(error), repr(error), or an f-string with it; not type(error).__name__ or an attribute of it."""
    if isinstance(value, ast.JoinedStr):
        parts = [each.value for each in value.values if isinstance(each, ast.FormattedValue)]
        return any(isinstance(each, ast.Name) and each.id == name for each in parts)
    called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("str", "repr")
    return called and any(isinstance(each, ast.Name) and each.id == name for each in value.args)  # type: ignore[attr-defined]
