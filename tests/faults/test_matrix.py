"""A sample of the fault matrix: whatever dies, and whatever else fails, nothing acknowledged is lost or done twice.

The whole matrix: benchmarks/fault_matrix.py. What the names mean: docs/faults.md.
"""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.doctor.examining import ConfiguredOrthanc
from tests.faults import mutants
from tests.faults.invariant import Expected, InvariantBroken, settled
from tests.faults.matrix import PROOFS, possible, run, trial
from tests.faults.rig import Rig, Servers
from tests.faults.sending import Sender
from tests.faults.states import STATES, Part
from tests.support.peers import Postgres, Redis
from tests.support.processes import wait_for

#: A part takes long to start where others want the processor too.
pytestmark = pytest.mark.timeout(1200)

_SAMPLE = [
    ("embedded", "after the answer", "power lost"),
    ("embedded", "before ledger commit", "same instance twice"),
    ("embedded", "before result commit", "late image"),
    ("embedded", "before handing over", "frozen beyond its lease"),
    ("embedded", "after rename", "disk full"),
    ("production", "in inference", "two associations at once"),
    ("production", "after the PACS's answer", "PACS stores and closes"),
    ("production", "after publish", "broker restarted and emptied"),
    ("production", "in sweep", "ledger restarted or locked"),
]
#: The others are taken out by benchmarks/fault_matrix.py.
_QUICK_MUTANTS = ["no sync of folders", "no fencing", "no duplicate check"]
_MUTANT_PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With servers of its own: they are stopped and started, which is nobody else's business."""
    folder = tmp_path_factory.mktemp(f"faults-{request.param}")
    postgres = redis = None
    if request.param == "production":
        for each in ("postgres", "redis"):
            (folder / each).mkdir()
        postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis")
    (folder / "orthanc").mkdir()
    orthanc = ConfiguredOrthanc(folder / "orthanc")
    rig = Rig(folder / "rig", Servers(request.param, orthanc, postgres, redis))
    try:
        rig.start(*Part)
        yield rig
    finally:
        rig.close()
        for server in (orthanc, postgres, redis):
            if server is not None:
                server.stop()


@pytest.mark.parametrize("rig", ["embedded"], indirect=True, scope="module")
def test_an_ordinary_study_passes_every_state_of_the_matrix(rig: Rig) -> None:
    path, header = rig.radiograph()
    assert Sender(rig.node.port, [path]).finish(60)
    wait_for("the result is delivered", settled(rig.node.ledger, [Expected(header.StudyInstanceUID, [path])]), 120)
    missing = {each.name for each in STATES}

    def all_passed() -> bool:
        missing.difference_update(rig.orders.reached())
        return not missing

    with suppress(AssertionError):
        wait_for("storage is committed", all_passed, 30)
    assert not missing


@pytest.mark.parametrize(("rig", "state", "condition"), _SAMPLE, indirect=["rig"], scope="module")
def test_nothing_is_lost_or_done_twice(rig: Rig, state: str, condition: str) -> None:
    which = trial(state, condition)
    if not possible(which, rig):
        pytest.skip("a file system that can be filled needs root, who may mount a tmpfs")
    run(rig, which)


@pytest.mark.parametrize("rig", ["embedded"], indirect=True, scope="module")
@pytest.mark.parametrize("mutant", _QUICK_MUTANTS)
def test_a_node_without_one_of_its_protections_is_found_out(rig: Rig, mutant: str) -> None:
    part = mutants.BY_NAME[mutant].part
    rig.replace(part, mutant)
    try:
        with pytest.raises(InvariantBroken):
            run(rig, PROOFS[mutant], _MUTANT_PATIENCE_SECONDS)
    finally:
        rig.replace(part)
