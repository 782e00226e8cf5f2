"""A committed result gets its pictures: after everything urgent, without ever touching it, on both databases."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from sqlalchemy import func, select, update

from node.intake.received import read_received
from node.intake.reception import ReceptionDesk
from node.ledger.db_command import retry_command
from node.ledger.leases import claim, give_up_abandoned
from node.ledger.ledger import Ledger, now
from node.ledger.report import recent_problems
from node.queue import ANALYSIS
from node.storage.object_store import FolderObjectStore
from node.sweep import Sweep
from schemas.errors import WorkerProcessLostError
from schemas.settings import Settings, WorkerSettings, WorkSettings
from schemas.tables import Bundle, BundleState, Inference, Instance, Picture, Result, ResultImage, Study, WorkState
from tests.conftest import Mode
from tests.pictures.synthetic import MANIFEST, PREPROCESSING, Drawn, model_output
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for
from workers import tasks as tasks_module
from workers.engine_messages import Ready
from workers.engine_queue import Computed
from workers.pictures import PicturesRequest, draw_pictures
from workers.placement import Placement
from workers.processes import Processes
from workers.second_look import Detail
from workers.serving import Served
from workers.tasks import Tasks

DIGEST = "d" * 64
SETTINGS = Settings(
    work=WorkSettings(lease_seconds=30, attempts=2, backoff_seconds=0.01, backoff_maximum_seconds=0.02),
    worker=WorkerSettings(threads=2, processes=2),
)


class _Hints:
    """Keeps hints instead of publishing them."""

    def __init__(self) -> None:
        self.hinted: list[str] = []

    def hint(self, queue: str) -> None:
        self.hinted.append(queue)

    def waiting(self, queue: str) -> int:
        return 0


class _Here:
    """Runs in this process what the pool would run, and remembers in which order."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        self.events.append(function.__name__)
        return function(*args)

    def call_for(self, items: int, function: Callable[..., Any], *args: Any) -> Any:
        return self.call(function, *args)


class _Engine:
    """Sees the same in every image."""

    def run(self, image: NDArray[Any], priority: int, detail: Detail | None) -> Computed:
        by = Ready(name="torch", device="cpu", precision="float32", bundle_digest=DIGEST)
        return Computed(model_output(Placement.of(300, 300, PREPROCESSING)), by)


class _Serving:
    """Serves the one bundle, without a process."""

    @contextmanager
    def hold(self) -> Iterator[dict[str, Served]]:
        engine: Any = _Engine()
        yield {DIGEST: Served(DIGEST, MANIFEST, engine, [])}

    def digests(self) -> list[str]:
        return [DIGEST]


@dataclass
class Worker:
    """A worker's tasks on a ledger and a store, without its processes."""

    ledger: Ledger
    store: FolderObjectStore
    #: What ran in the pool, in order.
    events: list[str] = field(default_factory=list)

    def tasks(self, processes: object = None, settings: Settings = SETTINGS) -> Tasks:
        pool: Any = processes or _Here(self.events)
        publisher: Any = _Hints()
        serving: Any = _Serving()
        return Tasks(settings, self.ledger, self.store, publisher, pool, serving)

    def receive(self, path: Path) -> Dataset:
        """Take the file in as a receiver does, and close its study."""
        desk = ReceptionDesk(self.ledger, self.store, SETTINGS)
        arrived = self.store.incoming / path.name
        arrived.write_bytes(path.read_bytes())
        desk.take(read_received(arrived), "TEST", monotonic())
        header = dcmread(path, stop_before_pixels=True)
        desk.close_studies({header.StudyInstanceUID})
        return header

    def pictures(self) -> list[Picture]:
        with self.ledger.read() as session:
            return list(session.scalars(select(Picture).order_by(Picture.id)))

    def picture_of(self, sop_instance_uid: str) -> Picture:
        with self.ledger.read() as session:
            query = select(Picture).join(ResultImage).join(Instance)
            return session.scalars(query.where(Instance.sop_instance_uid == sop_instance_uid)).one()

    def results(self) -> list[tuple[str, str | None]]:
        with self.ledger.read() as session:
            return [(row.state, row.document) for row in session.scalars(select(Result).order_by(Result.id))]

    def work(self, tasks: Tasks) -> None:
        """Work until no picture is due any more: what failed is due again a little later."""

        def settled() -> bool:
            tasks.work()
            return all(each.state in (WorkState.DONE, WorkState.FAILED) for each in self.pictures())

        wait_for("every picture is drawn or given up", settled)


@pytest.fixture
def worker(mode: Mode, tmp_path: Path) -> Iterator[Worker]:
    ledger = Ledger(mode.migrated(tmp_path))
    bundle = Bundle(
        digest=DIGEST,
        name=MANIFEST.name,
        version=MANIFEST.version,
        state=BundleState.ACTIVE,
        manifest=MANIFEST.model_dump_json(),
        registered_at=now(),
    )
    ledger.write(lambda session: session.add(bundle))
    yield Worker(ledger, FolderObjectStore(tmp_path / "objects"))
    ledger.close()


def phantom_file(path: Path, seed: int, study: Dataset | None = None) -> Path:
    write_phantom(path, seed=seed, rows=300, columns=300, study=study)
    return path


def test_each_image_of_a_committed_result_gets_its_pictures_and_the_page_is_told(
    worker: Worker, tmp_path: Path
) -> None:
    first = worker.receive(phantom_file(tmp_path / "a.dcm", 1))
    worker.receive(phantom_file(tmp_path / "b.dcm", 2, study=first))
    worker.tasks().work()
    pictures = worker.pictures()
    assert [each.state for each in pictures] == [WorkState.DONE, WorkState.DONE]
    for each in pictures:
        assert each.sha256
        found = Drawn(worker.store.get(each.sha256))
        assert (found.index.rows, found.index.columns) == (300, 300)
    with worker.ledger.read() as session:
        study = session.scalars(select(Study)).one()
        result = session.scalars(select(Result)).one()
    assert {each.priority for each in pictures} == {result.priority}
    assert study.changed_at >= max(each.finished_at or 0 for each in pictures) - 1e-3
    assert study.changed_at > (result.finished_at or 0)


def test_pictures_wait_for_every_report(worker: Worker, tmp_path: Path) -> None:
    for number in range(3):
        worker.receive(phantom_file(tmp_path / f"{number}.dcm", number))
    worker.tasks().work()
    kinds = [event for event in worker.events if event != "prepare"]
    assert kinds == ["assemble"] * 3 + ["draw_pictures"] * 3


def test_an_image_that_could_not_be_analysed_has_no_pictures_and_the_other_has(worker: Worker, tmp_path: Path) -> None:
    first = worker.receive(phantom_file(tmp_path / "a.dcm", 1))

    def black(dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    write_phantom(tmp_path / "b.dcm", seed=2, study=first, change=black, rows=300, columns=300)
    worker.receive(tmp_path / "b.dcm")
    worker.work(worker.tasks())
    (only,) = worker.pictures()
    assert only.id == worker.picture_of(first.SOPInstanceUID).id
    assert only.state == WorkState.DONE


@pytest.mark.parametrize(
    ("analysis", "waited_seconds", "comes_first"),
    [
        pytest.param(1000, 0.0, True, id="less urgent analyses wait"),
        pytest.param(100, 0.0, False, id="as urgent: the analysis first"),
        pytest.param(100, 11.0, True, id="as urgent, but the picture has waited"),
        pytest.param(10, 3600.0, False, id="more urgent: the analysis first, always"),
    ],
)
def test_a_picture_neither_delays_what_is_urgent_nor_starves(
    worker: Worker, tmp_path: Path, analysis: int, waited_seconds: float, comes_first: bool
) -> None:
    worker.receive(phantom_file(tmp_path / "a.dcm", 1))
    worker.tasks().work()
    worker.receive(phantom_file(tmp_path / "b.dcm", 2))
    picture = {"state": WorkState.DUE, "priority": 100, "due_at": now() - waited_seconds, "attempts": 0}
    worker.ledger.write(lambda session: session.execute(update(Picture).values(**picture)))
    worker.ledger.write(
        lambda session: session.execute(
            update(Inference).where(Inference.state == WorkState.DUE).values(priority=analysis)
        )
    )
    worker.events.clear()
    worker.tasks().work()
    assert worker.events[0] == ("draw_pictures" if comes_first else "prepare")
    assert worker.events.count("draw_pictures") == 2


def test_at_most_half_of_the_processes_draw(worker: Worker, tmp_path: Path) -> None:
    for number in range(2):
        worker.receive(phantom_file(tmp_path / f"{number}.dcm", number))
    drawing: list[list[str]] = []

    class Nested(_Here):
        def call(self, function: Callable[..., Any], *args: Any) -> Any:
            if function is draw_pictures:
                # While one draws, another thread finds nothing to do.
                before = [each.state for each in worker.pictures()]
                tasks.work()
                drawing.append(before)
                assert [each.state for each in worker.pictures()] == before
            return super().call(function, *args)

    tasks = worker.tasks(Nested(worker.events))
    tasks.work()
    assert len(drawing) == 2
    assert {each.state for each in worker.pictures()} == {WorkState.DONE}


def test_a_failure_is_recorded_with_its_reason_and_taken_up_again_by_db_retry(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = worker.receive(phantom_file(tmp_path / "a.dcm", 1))
    other = worker.receive(phantom_file(tmp_path / "b.dcm", 2))
    tasks = worker.tasks(FileLost(worker, header.SOPInstanceUID))
    worker.work(tasks)
    assert worker.picture_of(other.SOPInstanceUID).state == WorkState.DONE
    failed = worker.picture_of(header.SOPInstanceUID)
    assert failed.state == WorkState.FAILED
    assert "cannot be read" in failed.error
    assert [state for state, _ in worker.results()] == [WorkState.DONE, WorkState.DONE]
    with worker.ledger.read() as session:
        (problem,) = [each for each in recent_problems(session) if each.uid == header.SOPInstanceUID]
    assert problem.what == "no pictures for the page" and problem.reason == failed.error

    worker.store.put((tmp_path / "a.dcm").read_bytes())
    monkeypatch.setenv("CHEXNODE_LEDGER_URL", worker.ledger.url)
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path))
    printed = CliRunner().invoke(retry_command, catch_exceptions=False).output
    assert "picture: 1 due again" in printed
    before = worker.results()
    worker.tasks().work()
    again = worker.picture_of(header.SOPInstanceUID)
    assert (again.state, again.error) == (WorkState.DONE, "")
    assert worker.results() == before


class FileLost(_Here):
    """The image's file is lost between the report and its pictures."""

    def __init__(self, worker: Worker, sop_instance_uid: str) -> None:
        super().__init__(worker.events)
        self._worker = worker
        self._sop_instance_uid = sop_instance_uid

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if function is draw_pictures:
            with self._worker.ledger.read() as session:
                query = select(Instance.file_sha256).where(Instance.sop_instance_uid == self._sop_instance_uid)
                lost = self._worker.store.path(session.scalars(query).one())
            lost.unlink(missing_ok=True)
        return super().call(function, *args)


def poisonous(request: PicturesRequest) -> bytes:
    """Draws, but one file crashes whoever reads it."""
    if Path(os.environ["CHEXNODE_TEST_POISON"]).read_text() == request.path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return draw_pictures(request)


def test_a_picture_that_crashes_its_process_blocks_no_other(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = [worker.receive(phantom_file(tmp_path / f"{number}.dcm", number)) for number in range(3)]
    with worker.ledger.read() as session:
        query = select(Instance.file_sha256).where(Instance.sop_instance_uid == headers[0].SOPInstanceUID)
        (tmp_path / "poison").write_text(session.scalars(query).one())
    monkeypatch.setenv("CHEXNODE_TEST_POISON", str(tmp_path / "poison"))
    monkeypatch.setattr(tasks_module, "draw_pictures", poisonous)
    processes = Processes(1, deadline_seconds=60)
    try:
        processes.start()
        worker.work(worker.tasks(processes))
    finally:
        processes.close()
    states = [worker.picture_of(each.SOPInstanceUID).state for each in headers]
    assert states == [WorkState.FAILED, WorkState.DONE, WorkState.DONE]
    failed = worker.picture_of(headers[0].SOPInstanceUID)
    assert failed.attempts == SETTINGS.work.attempts
    assert failed.error.startswith((WorkerProcessLostError.__doc__ or "?").split("\n")[0])
    assert {state for state, _ in worker.results()} == {WorkState.DONE}


def test_pictures_whose_drawer_died_are_drawn_by_the_next_once_the_lease_has_run_out(
    worker: Worker, tmp_path: Path
) -> None:
    worker.receive(phantom_file(tmp_path / "a.dcm", 1))
    tasks = worker.tasks()
    assert tasks._analyse_one() and tasks._build_one()
    short = SETTINGS.work.model_copy(update={"lease_seconds": 0.2})
    assert claim(worker.ledger, Picture, short, short.attempts)  # and never heard of again
    sweep = Sweep(worker.ledger, worker.store, _Hints(), SETTINGS)  # type: ignore[arg-type]
    wait_for("the sweep publishes it", lambda: sweep.once()[ANALYSIS] == 1)
    tasks.work()
    (drawn,) = worker.pictures()
    assert (drawn.state, drawn.attempts) == (WorkState.DONE, 2)


def test_pictures_whose_every_drawer_died_are_given_up(worker: Worker, tmp_path: Path) -> None:
    worker.receive(phantom_file(tmp_path / "a.dcm", 1))
    tasks = worker.tasks()
    assert tasks._analyse_one() and tasks._build_one()
    short = SETTINGS.work.model_copy(update={"lease_seconds": 0.05})
    for _ in range(short.attempts):
        wait_for("it can be claimed", lambda: claim(worker.ledger, Picture, short, short.attempts))
    wait_for("it is given up", lambda: worker.ledger.write(lambda s: give_up_abandoned(s, Picture, short.attempts)))
    (only,) = worker.pictures()
    assert only.state == WorkState.FAILED
    assert worker.results()[0][0] == WorkState.DONE
    with worker.ledger.read() as session:
        assert session.scalar(select(func.count()).select_from(Picture)) == 1
