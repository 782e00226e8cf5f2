"""A sample of the fault matrix: whatever dies, and whatever else fails, nothing acknowledged is lost or done twice.

The whole matrix: benchmarks/fault_matrix.py. What the names mean: docs/faults.md.
"""

from collections.abc import Iterator

import pytest

from tests.faults import conditions, states
from tests.faults.invariant import InvariantBroken
from tests.faults.matrix import Trial, possible, run
from tests.faults.mutants import MUTANTS, Mutant
from tests.faults.rig import Rig, Servers
from tests.faults.states import Part
from tests.support.peers import Orthanc, Postgres, Redis

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
_QUICK_MUTANTS = [each for each in MUTANTS if each.name in ("no sync of folders", "no fencing", "no duplicate check")]
_MUTANT_PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest, orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With servers of its own: they are stopped and started, which is nobody else's business."""
    folder = tmp_path_factory.mktemp(f"faults-{request.param}")
    postgres = redis = None
    if request.param == "production":
        for each in ("postgres", "redis"):
            (folder / each).mkdir()
        postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis")
    rig = Rig(folder / "rig", Servers(request.param, orthanc, postgres, redis))
    try:
        rig.start(*Part)
        yield rig
    finally:
        rig.close()
        for server in (postgres, redis):
            if server is not None:
                server.stop()


@pytest.mark.parametrize(("rig", "state", "condition"), _SAMPLE, indirect=["rig"], scope="module")
def test_nothing_is_lost_or_done_twice(rig: Rig, state: str, condition: str) -> None:
    trial = Trial(states.BY_NAME[state], conditions.BY_NAME[condition])
    if not possible(trial, rig):
        pytest.skip("a file system that can be filled needs root, who may mount a tmpfs")
    run(rig, trial)


@pytest.mark.parametrize("rig", ["embedded"], indirect=True, scope="module")
@pytest.mark.parametrize("mutant", _QUICK_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_node_without_one_of_its_protections_is_found_out(rig: Rig, mutant: Mutant) -> None:
    rig.replace(mutant.part, mutant.name)
    try:
        with pytest.raises(InvariantBroken):
            run(rig, mutant.trial, _MUTANT_PATIENCE_SECONDS)
    finally:
        rig.replace(mutant.part)
