"""A node that runs for the whole session in each of the two modes, delivering to a real Orthanc."""

from collections.abc import Iterator

import pytest

from tests.conftest import Mode
from tests.support.live_node import LiveNode, orthanc_destination
from tests.support.peers import Orthanc


@pytest.fixture(scope="session")
def live(mode: Mode, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """Receiver, inference worker and delivery worker, all present."""
    destination = orthanc_destination(orthanc.url, '["segmentation", "report", "secondary_capture"]')
    home = tmp_path_factory.mktemp(f"node-{mode.name}")
    node = LiveNode(home, mode.ledger_url(), mode.broker_url(), destination)
    try:
        node.start("node", "worker", "delivery")
        yield node
    finally:
        node.stop()
