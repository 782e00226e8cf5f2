"""Several receiver processes on one port: one that dies takes nobody else's association along, and comes back."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.monitoring.presence import present_processes
from node.network.receivers import RECEIVER
from tests.node.receiving import ASSOCIATE_AC, RawPeer, echo_request
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveNode]:
    monkeypatch.setenv("CHEXNODE_DICOM__RECEIVERS", "2")
    node = LiveNode(tmp_path / "home", "", "", "")
    yield node
    node.stop()


def receivers(live: LiveNode) -> set[int]:
    """Their process IDs."""
    with live.ledger.read() as session:
        return {each.process_id for each in present_processes(session) if each.role == RECEIVER}


def answers(peer: RawPeer) -> bool:
    try:
        peer.fragment(echo_request(), command=True, last=True)
        return bool(peer.read()[0])
    except OSError:
        return False


def test_a_receiver_that_is_killed_takes_only_its_own_associations_along_and_comes_back(
    live: LiveNode, tmp_path: Path
) -> None:
    live.start("node")
    before = receivers(live)
    assert len(before) == 2
    # All on one of the two once in 16,000 runs.
    peers = [RawPeer(live.port) for _ in range(15)]
    assert {peer.associate()[0] for peer in peers} == {ASSOCIATE_AC}

    os.kill(min(before), signal.SIGKILL)
    wait_for("its associations are gone", lambda: not all(map(answers, peers)))
    assert any(map(answers, peers))
    for peer in peers:
        peer.socket.close()

    wait_for("it is back", lambda: len(receivers(live)) == 2 and min(before) not in receivers(live))
    study = write_phantom(tmp_path / "0.dcm", rows=300, columns=300)
    for number in range(6):
        write_phantom(tmp_path / f"{number}.dcm", study=study, rows=300, columns=300)
        assert live.send(tmp_path / f"{number}.dcm")[0].status == 0

    running = live.running[0]
    running.stop()
    wait_for("its receivers end with the node", lambda: not receivers(live))
