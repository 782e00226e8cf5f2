"""Several bundles side by side: who analyses which image, and one result per bundle name, versions following on."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.bundles.registry import active_bundles
from node.intake.population import taken, takes
from node.intake.received import read_received
from node.intake.reception import ReceptionDesk
from node.intake.view_position import View
from node.ledger.leases import make_due_again
from node.ledger.ledger import Ledger, now
from node.results.planning import make_current, plan_results, wanted_objects
from node.storage.object_store import FolderObjectStore
from schemas.bundle import Population
from schemas.settings import AllowedWaits, ResultObject, Settings
from schemas.tables import Inference, Instance, Result, Series, Study, WorkState
from tests.node.bundles import ADULTS, activated, retired
from tests.support.phantoms import write_phantom

ANYBODY = Population()
ONLY_AP = Population(view_positions=["AP"])


class Department:
    """Receives, computes and plans without any process."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self.store = FolderObjectStore(folder / "objects")
        self.desk = ReceptionDesk(ledger, self.store, Settings())

    def receive(self, seed: int = 1, **attributes: str) -> Dataset:
        def change(dataset: Dataset) -> None:
            for keyword, value in attributes.items():
                setattr(dataset, keyword, value)

        header = write_phantom(self.folder / f"{seed}.dcm", seed=seed, rows=300, columns=300, change=change)
        self._take(self.folder / f"{seed}.dcm", lambda dataset: None)
        return header

    def correct(self, seed: int, **attributes: str) -> None:
        """The same image again with another header."""

        def change(dataset: Dataset) -> None:
            for keyword, value in attributes.items():
                setattr(dataset, keyword, value)

        self._take(self.folder / f"{seed}.dcm", change)

    def _take(self, path: Path, change: Callable[[Dataset], None]) -> None:
        dataset = dcmread(path)
        change(dataset)
        arrived = self.store.incoming / "arrived.dcm"
        dataset.save_as(arrived)
        self.desk.take(read_received(arrived), "TEST", monotonic())
        self.desk.close_studies({dataset.StudyInstanceUID})

    def compute(self, digest: str, state: WorkState = WorkState.DONE) -> None:
        self.ledger.write(
            lambda session: session.execute(
                update(Inference).where(Inference.bundle_digest == digest).values(state=state)
            )
        )

    def plan(self) -> int:
        wanted, waits = wanted_objects([]), AllowedWaits()
        return self.ledger.write(lambda session: plan_results(session, active_bundles(session), wanted, waits))

    def build(self) -> None:
        """As if every planned result had been built."""

        def change(session: Session) -> None:
            for result in session.scalars(select(Result).where(Result.state == WorkState.DUE).order_by(Result.id)):
                result.state = WorkState.DONE
                make_current(session, result)

        self.ledger.write(change)

    def results(self) -> list[tuple[str, int, bool]]:
        """(bundle name, version, current) in the order of planning."""
        with self.ledger.read() as session:
            rows = session.scalars(select(Result).order_by(Result.id)).all()
        return [(row.bundle_name, row.version, row.current) for row in rows]

    def queued(self) -> set[str]:
        with self.ledger.read() as session:
            return set(session.scalars(select(Inference.bundle_digest)))

    def instance(self) -> Instance:
        with self.ledger.read() as session:
            return session.scalars(select(Instance)).one()

    def due(self) -> bool:
        with self.ledger.read() as session:
            return session.scalars(select(Study.result_due_at)).one() is not None


@pytest.fixture
def department(ledger: Ledger, tmp_path: Path) -> Department:
    return Department(ledger, tmp_path)


def test_an_image_is_queued_for_every_bundle_whose_population_includes_it(department: Department) -> None:
    tubes, children = activated(department.ledger, "tubes"), activated(department.ledger, "any", population=ANYBODY)
    activated(department.ledger, "ap", population=ONLY_AP)
    department.receive(PatientAge="060Y", ViewPosition="PA")
    assert department.queued() == {tubes, children}
    assert (department.instance().view, department.instance().age_years) == ("PA", 60.0)


def test_an_image_that_no_bundle_takes_names_for_whom_each_is_made(department: Department) -> None:
    activated(department.ledger, "tubes")
    activated(department.ledger, "ap", population=ONLY_AP)
    department.receive(PatientAge="007Y", ViewPosition="PA")
    instance = department.instance()
    assert (instance.selected, instance.route_reason, instance.view) == (False, "outside_population", "PA")
    assert instance.route_explanation == (
        "The view is PA and the patient is 7 years old, and no active model is made for that: "
        "ap for AP views; tubes for PA and AP views of patients from 18 years."
    )
    assert department.plan() == 0
    assert not department.due()


def test_no_bundle_waits_for_another_and_each_gets_one_result(department: Department) -> None:
    fast, slow = activated(department.ledger, "fast"), activated(department.ledger, "slow")
    department.receive()
    department.compute(fast)
    assert department.plan() == 1
    assert department.due()
    department.build()
    assert department.plan() == 0
    department.compute(slow)
    assert department.plan() == 1
    department.build()
    assert department.plan() == 0
    assert department.results() == [("fast", 1, True), ("slow", 1, True)]
    assert not department.due()


def test_what_one_bundle_has_done_hides_no_study_from_it_while_the_other_is_behind(department: Department) -> None:
    fast = activated(department.ledger, "fast")
    activated(department.ledger, "slow")
    wanted, waits = wanted_objects([]), AllowedWaits()
    for seed in range(3):
        department.receive(seed)
        department.compute(fast)
        planned = department.ledger.write(
            lambda session: plan_results(session, active_bundles(session), wanted, waits, limit=1)
        )
        assert planned == 1


def test_a_late_image_while_the_other_bundle_computes_is_in_the_next_version_of_both(department: Department) -> None:
    fast, slow = activated(department.ledger, "fast"), activated(department.ledger, "slow")
    first = department.receive(1)
    department.compute(fast)
    department.plan()
    department.build()
    write_phantom(department.folder / "2.dcm", seed=2, study=first, rows=300, columns=300)
    department.correct(2)
    department.compute(fast)
    department.compute(slow)
    department.plan()
    department.build()
    assert department.results() == [("fast", 1, False), ("fast", 2, True), ("slow", 1, True)]
    with department.ledger.read() as session:
        images = {row.bundle_name: len(row.images) for row in session.scalars(select(Result).where(Result.current))}
    assert images == {"fast": 2, "slow": 2}
    assert not department.due()


def test_another_version_of_a_bundle_continues_its_results_and_names_the_predecessor(department: Department) -> None:
    first = activated(department.ledger, "tubes", "1")
    department.receive()
    department.compute(first)
    department.plan()
    department.build()
    second = activated(department.ledger, "tubes", "2")
    assert department.plan() == 0  # of a study that is done nothing is computed anew
    department.correct(1, PatientName="Corrected^Name")
    department.plan()
    department.compute(second)
    department.plan()
    department.build()
    assert department.results() == [("tubes", 1, False), ("tubes", 2, True)]
    with department.ledger.read() as session:
        old, new = session.scalars(select(Result).order_by(Result.id))
    assert (old.bundle_digest, new.bundle_digest, new.predecessor_id) == (first, second, old.id)


def test_a_change_of_version_in_the_middle_loses_no_study(department: Department) -> None:
    first = activated(department.ledger, "tubes", "1")
    department.receive(1)  # waits
    department.receive(2)
    department.ledger.write(
        lambda session: session.execute(
            update(Inference)
            .where(Inference.id == 2)
            .values(state=WorkState.LEASED, lease_token="t", lease_expires_at=now() + 60)
        )
    )
    second = activated(department.ledger, "tubes", "2")
    department.compute(first)  # what was held is finished under the old one
    department.plan()
    department.compute(second)
    assert department.plan() == 2
    with department.ledger.read() as session:
        assert set(session.scalars(select(Result.bundle_digest))) == {second}


def test_the_results_of_a_retired_bundle_stay_and_the_others_go_on(department: Department) -> None:
    tubes, findings = activated(department.ledger, "tubes"), activated(department.ledger, "findings")
    department.receive()
    department.compute(tubes)
    department.compute(findings)
    department.plan()
    department.build()
    retired(department.ledger, "tubes")
    department.correct(1, PatientName="Corrected^Name")
    assert department.plan() == 1
    department.build()
    assert department.results() == [("findings", 1, False), ("tubes", 1, True), ("findings", 2, True)]
    # No longer a frontal view: nobody's result holds.
    department.correct(1, ViewPosition="LL")
    assert department.plan() == 0
    assert not any(current for _, _, current in department.results())


def test_a_correction_that_is_taken_back_brings_the_result_back(department: Department) -> None:
    tubes = activated(department.ledger, "tubes")
    department.receive()
    department.compute(tubes)
    department.plan()
    department.build()
    department.correct(1, ViewPosition="LL")
    department.plan()
    assert department.results() == [("tubes", 1, False)]
    department.correct(1)  # byte for byte the first file
    assert department.plan() == 1
    department.build()
    assert department.results() == [("tubes", 1, False), ("tubes", 2, True)]


def test_a_version_that_is_built_late_after_a_retry_takes_no_newer_ones_place(department: Department) -> None:
    tubes = activated(department.ledger, "tubes")
    department.receive()
    department.compute(tubes)
    department.plan()
    given_up = update(Result).values(state=WorkState.FAILED)
    department.ledger.write(lambda session: session.execute(given_up))
    department.correct(1, PatientName="Corrected^Name")
    department.plan()
    department.build()
    assert department.results() == [("tubes", 1, False), ("tubes", 2, True)]
    department.ledger.write(lambda session: make_due_again(session, Result))
    department.build()
    assert department.results() == [("tubes", 1, False), ("tubes", 2, True)]


@pytest.mark.parametrize("others", [0, 1])
def test_an_image_that_is_computed_after_a_retry_comes_into_a_result(department: Department, others: int) -> None:
    tubes = activated(department.ledger, "tubes")
    first = department.receive(1)
    department.compute(tubes, WorkState.FAILED)
    for seed in range(2, 2 + others):
        write_phantom(department.folder / f"{seed}.dcm", seed=seed, study=first, rows=300, columns=300)
        department.correct(seed)
    due = update(Inference).where(Inference.state == WorkState.DUE).values(state=WorkState.DONE)
    department.ledger.write(lambda session: session.execute(due))
    assert department.plan() == others
    department.build()
    assert not department.due()
    department.ledger.write(lambda session: make_due_again(session, Inference))
    assert department.plan() == 0
    department.compute(tubes)
    assert department.plan() == 1
    department.build()
    assert department.plan() == 0
    with department.ledger.read() as session:
        (current,) = session.scalars(select(Result).where(Result.current))
        seen = [each for each in current.objects if each.kind == ResultObject.SEGMENTATION]
        assert (current.version, len(seen)) == (1 + others, 1 + others)


def test_what_was_planned_before_its_bundle_was_retired_is_not_shown_once_no_view_is_frontal(
    department: Department,
) -> None:
    activated(department.ledger, "findings")
    tubes = activated(department.ledger, "tubes")
    department.receive()
    department.compute(tubes)
    department.plan()
    retired(department.ledger, "tubes")
    department.correct(1, ViewPosition="LL")
    department.plan()
    department.build()  # late
    department.plan()
    assert not any(current for _, _, current in department.results())
    assert not department.due()


def test_a_study_does_not_wait_for_a_bundle_that_was_retired(department: Department) -> None:
    fast = activated(department.ledger, "fast")
    activated(department.ledger, "slow")
    department.receive()
    department.compute(fast)
    department.plan()
    retired(department.ledger, "slow")
    assert department.plan() == 0
    assert not department.due()
    assert department.queued() == {fast}


def test_what_came_while_no_bundle_was_active_is_analysed_when_one_is(department: Department) -> None:
    activated(department.ledger, "tubes")
    retired(department.ledger, "tubes")
    department.receive()
    assert (department.instance().selected, department.instance().route_reason) == (False, "no_bundle")
    assert department.plan() == 0
    digest = activated(department.ledger, "tubes")
    department.plan()
    assert department.queued() == {digest}
    assert (department.instance().selected, department.instance().route_reason) == (True, "selected")
    department.compute(digest)
    assert department.plan() == 1


@pytest.mark.parametrize("population", [ADULTS, ANYBODY, ONLY_AP, Population(view_positions=[])], ids=str)
def test_the_population_is_the_same_in_the_ledger_as_in_routing(ledger: Ledger, population: Population) -> None:
    patients = [(view, age) for view in (View.PA, View.AP, View.FRONTAL) for age in (None, 0.0, 17.99, 18.0, 90.0)]

    def arrange(session: Session) -> None:
        study = Study(study_instance_uid="1", first_received_at=0, last_received_at=0, changed_at=0)
        series = Series(study=study, series_instance_uid="2")
        for number, (view, age) in enumerate([*patients, (None, 50.0)]):
            session.add(
                Instance(
                    series=series,
                    sop_instance_uid=str(number),
                    sop_class_uid="1",
                    transfer_syntax_uid="1",
                    file_sha256="f",
                    dataset_digest="d",
                    pixel_digest="p",
                    header_digest="h",
                    received_at=0,
                    selected=False,
                    route_reason="-",
                    route_explanation="",
                    view=view.value if view else "",
                    age_years=age,
                )
            )

    ledger.write(arrange)
    with ledger.read() as session:
        found = session.scalars(select(Instance.sop_instance_uid).where(taken(population))).all()
    assert sorted(found, key=int) == [
        str(number) for number, (view, age) in enumerate(patients) if takes(population, view, age)
    ]
