"""All real DICOM files at hand, by DCMTK's storescu: each is stored bit for bit, or refused with a status.

What "bit for bit" means is said by another receiver, DCMTK's storescp in its bit preserving mode, which gets the same
from the same sender. What storescu itself does not take for DICOM is sent as the bytes that it is (tests/fuzz).
"""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.faults.invariant import dataset_sha256
from tests.fuzz import wire
from tests.fuzz.connection import throw
from tests.fuzz.inputs import Input
from tests.real.radiography import FOLDER
from tests.support.dicom_tools import echoscu, storescu
from tests.support.live_node import LiveNode
from tests.support.peers import require
from tests.support.processes import Running, free_port, wait_for

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real DICOM files are not at {FOLDER}")

#: storescu's option that proposes a transfer syntax; all others are proposed as uncompressed ones.
_PROPOSE = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
_SENDING = re.compile(r"Sending file: (.*)")
_ANSWER = re.compile(r"Received Store Response \((.*)\)")


@dataclass(frozen=True)
class Said:
    """What storescu said of the files that it sent."""

    accepted: list[Path]
    #: With the words for the status.
    refused: dict[Path, str]


def send_all(port: int) -> Said:
    """Every file, by as many storescu as there are transfer syntaxes."""
    by_option: dict[str, list[Path]] = defaultdict(list)
    with (FOLDER / "index.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            by_option[_PROPOSE.get(row["transfer_syntax"], "-xe")].append(FOLDER / row["file"])
    said = Said([], {})
    for option, files in by_option.items():
        _send(port, option, files, said)
    return said


def _send(port: int, option: str, files: list[Path], said: Said) -> None:
    sent = storescu(port, files, ["-R", "-nh", option])
    if sent.returncode < 0:
        # One of the files kills storescu itself, before it sends any.
        if len(files) > 1:
            half = len(files) // 2
            _send(port, option, files[:half], said)
            _send(port, option, files[half:], said)
        return
    sending: Path | None = None
    for line in (sent.stdout + sent.stderr).splitlines():
        if found := _SENDING.search(line):
            sending = Path(found[1])
        elif (found := _ANSWER.search(line)) and sending is not None:
            if found[1] == "Success":
                said.accepted.append(sending)
            else:
                said.refused[sending] = found[1]
            sending = None


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    node = LiveNode(tmp_path_factory.mktemp("every-file") / "home", "", "", "")
    try:
        node.start("node")
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def said(node: LiveNode) -> Said:
    return send_all(node.port)


def stored(node: LiveNode) -> set[str]:
    """SHA-256 of every data set in the store."""
    return {dataset_sha256(path) for path in (node.home / "objects").glob("??/??/*")}


def test_every_file_is_stored_as_it_came_or_refused_with_a_status(node: LiveNode, said: Said, tmp_path: Path) -> None:
    assert len(said.accepted) > 200
    port, folder = free_port(), tmp_path / "reference"
    folder.mkdir()
    reference = Running(
        [require("storescp"), "+B", "+xa", "+uf", "-pm", "-aet", "CHEXNODE", "-od", folder, str(port)],
        tmp_path / "scp.log",
        # Without, it and its sender wait for each other 40 ms per file (Nagle's algorithm).
        {"TCP_NODELAY": "1"},
    )
    try:
        wait_for("storescp answers", lambda: echoscu(port) == 0)
        assert set(send_all(port).accepted) >= {*said.accepted, *said.refused}
    finally:
        reference.stop()
    came = Counter(dataset_sha256(path) for path in folder.iterdir())
    missing = came.keys() - stored(node)
    assert sum(came[each] for each in missing) <= len(said.refused)
    assert all(
        words.startswith(("Refused", "Error", "Failed", "Warning", "Unknown")) for words in said.refused.values()
    )


def test_what_storescu_does_not_send_hurts_nobody_either(node: LiveNode, said: Said) -> None:
    with (FOLDER / "index.csv").open(encoding="utf-8", newline="") as stream:
        files = {FOLDER / row["file"] for row in csv.DictReader(stream)}
    rest = sorted(files - {*said.accepted, *said.refused})
    assert rest
    for path in rest:
        content = path.read_bytes()
        data_set = content
        if content[128:132] == b"DICM" and content[132:136] == b"\2\0\0\0":
            data_set = content[144 + int.from_bytes(content[140:144], "little") :]
        sop_class, instance, syntax = _identity(path)
        request = wire.Association([wire.context(1, sop_class.encode(), [syntax.encode()])])
        command = wire.command(wire.store_request(instance, sop_class))
        conversation = wire.data(1, wire.LAST_COMMAND, command) + wire.fragmented(1, data_set) + wire.RELEASE
        thrown = throw(Input(path.name, 0, wire.pdu(wire.A_ASSOCIATE_RQ, request.body()) + conversation), node.port)
        if 0 in thrown.statuses:
            assert hashlib.sha256(data_set).hexdigest() in stored(node), path
    assert echoscu(node.port) == 0


def _identity(path: Path) -> tuple[str, str, str]:
    """SOP class, SOP instance and transfer syntax as far as pydicom can tell, else anything."""
    try:
        header = dcmread(path, force=True, stop_before_pixels=True)
        meta = getattr(header, "file_meta", None) or {}
        syntax = str(meta.get("TransferSyntaxUID", "") or wire.IMPLICIT)
        return str(header.get("SOPClassUID") or wire.DX), str(header.get("SOPInstanceUID") or "1.2.3"), syntax
    except Exception:  # noqa: BLE001 - these are the files that nobody can read
        return wire.DX, "1.2.3", wire.EXPLICIT
