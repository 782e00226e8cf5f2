"""Some hundred hostile inputs of every class: the node answers or aborts, keeps its size, and serves others meanwhile.

A hundred thousand of them: benchmarks/fuzz.py. What once did harm is kept in the corpus and thrown again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.campaign import BYSTANDER_SECONDS, Receiver, attack, cut_off_after, lorises, spread
from tests.fuzz.connection import Reached
from tests.fuzz.inputs import CLASSES, Input

_CORPUS = Path(__file__).parent / "corpus"
_COUNT = 350
#: How much the receiver may grow beyond what it takes at rest: a deflated data set is inflated in memory.
GROWTH_BYTES = 300 << 20
#: Of the settings: silence is cut off after a second, a message that is not whole after three; the rest is the machine.
_CUT_OFF_SECONDS = 30.0


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path_factory.mktemp("fuzz"))
    yield receiver
    receiver.stop()


def test_hostile_inputs_of_every_class_hurt_nobody(receiver: Receiver) -> None:
    findings = attack(receiver, spread(_COUNT))
    assert findings.hangs == []
    assert sum(findings.inputs.values()) == _COUNT
    assert findings.slowest_bystander < BYSTANDER_SECONDS
    assert findings.memory_peak - findings.memory_before < GROWTH_BYTES
    # The inputs get as far as there is to get, and are not all stopped at the door.
    everything = set().union(*findings.reached.values())
    assert {
        Reached.NOTHING,
        Reached.REJECTED,
        Reached.ASSOCIATED_ABORTED,
        Reached.REFUSED,
        Reached.STORED,
    } <= everything
    for kind in CLASSES:
        assert len(findings.reached[kind]) > 1, f"every input of {kind} ends in the same way"


def test_what_once_did_harm_does_none_now(receiver: Receiver) -> None:
    inputs = [Input(path.stem, 0, path.read_bytes()) for path in sorted(_CORPUS.iterdir())]
    assert inputs
    assert attack(receiver, inputs).hangs == []


def test_senders_that_are_slow_on_purpose_are_cut_off_while_others_are_served(receiver: Receiver) -> None:
    slow = lorises() * 3
    with ThreadPoolExecutor(len(slow)) as pool:
        futures = [pool.submit(cut_off_after, each, receiver.port, _CUT_OFF_SECONDS) for each in slow]
        assert receiver.serve_bystander() < BYSTANDER_SECONDS
        assert all(future.result() > 0.5 for future in futures)


def test_nothing_of_a_hostile_uid_becomes_a_path(receiver: Receiver) -> None:
    attack(receiver, spread(len(CLASSES) * 20, seed=1000))
    home = receiver.node.home
    for path in (home / "objects").rglob("*"):
        assert path.is_dir() or path.parent.name == "incoming" or len(path.name) == 64
    assert not Path("/tmp/fuzz").exists()
