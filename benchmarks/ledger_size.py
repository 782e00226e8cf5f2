"""A large ledger against an empty one: `python -m benchmarks.ledger_size [--studies 1000000]`, PostgreSQL.

Fills a ledger with copies of one study, as three years of a busy department leave them (two thousand are open), and
measures in turns on it and on an empty one (with the same open studies for the queries): worklist, sweep, what metrics
ask, and the intake of images through the reception desk with its durable store. Prints times, rates and their ratios.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter

from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from rich.console import Console
from rich.table import Table
from sqlalchemy import ColumnElement, Integer, String, case, cast, func, insert, literal, null, select
from sqlalchemy.orm import Session

from node.garbage import spare_what_is_loaded
from node.intake.received import read_received
from node.intake.reception import ReceptionDesk
from node.ledger.database import upgrade
from node.ledger.figures import read_figures
from node.ledger.ledger import Ledger, now
from node.monitoring.logs import configure_logs
from node.queue import Publisher
from node.storage.object_store import FolderObjectStore
from node.sweep import Sweep
from node.worklist import Selection, Show, read_worklist
from schemas.result import Urgency
from schemas.settings import FolderDestination, LogLevel, ResultObject, Settings
from schemas.tables import (
    Base,
    Delivery,
    Inference,
    Instance,
    Picture,
    ReadState,
    Reception,
    Result,
    ResultImage,
    Series,
    StoredObject,
    Study,
    WorkState,
)
from tests.node.bundles import activated
from tests.node.studies import add_study, commit_result, document
from tests.support.peers import Postgres
from tests.support.phantoms import write_phantom

_YEARS_SECONDS = 3 * 365 * 86400.0
_OPEN = 2000
_QUERIES = 60
#: Images of one measurement of intake, and how often each ledger has its turn.
_IMAGES, _ROUNDS = 120, 5


@dataclass(frozen=True)
class Measured:
    """A ledger and what works on it."""

    name: str
    ledger: Ledger
    store: FolderObjectStore
    desk: ReceptionDesk
    sweep: Sweep
    settings: Settings


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--associations", type=int, default=4, help="images that come at the same time")
    arguments = parser.parse_args()
    console = Console(width=110)
    configure_logs(LogLevel.WARNING)
    with tempfile.TemporaryDirectory() as name, _postgres(Path(name)) as postgres:
        full = _measured("full", postgres, Path(name))
        empty = _measured("empty", postgres, Path(name))
        started = perf_counter()
        _fill(full.ledger, arguments.studies)
        size = _scalar(full.ledger, "SELECT pg_database_size(current_database())") / 1e9
        console.print(f"{arguments.studies:,} studies, {size:.1f} GB, filled in {perf_counter() - started:.0f} s")
        _fill(empty.ledger, _OPEN)
        spare_what_is_loaded()
        _print_queries(full, empty, console)
        _print_intake(full, empty, arguments.associations, Path(name), console)


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop()


def _measured(name: str, postgres: Postgres, folder: Path) -> Measured:
    ledger = Ledger(postgres.database())
    upgrade(ledger)
    activated(ledger, "test")
    home = folder / name
    settings = Settings(home=home, destinations=[FolderDestination(name="out", path=folder)])
    store = FolderObjectStore(home / "objects")
    sweep = Sweep(ledger, store, Publisher(settings), settings)
    return Measured(name, ledger, store, ReceptionDesk(ledger, store, settings), sweep, settings)


# --- Filling ----------------------------------------------------------------------------------------------------------


def _fill(ledger: Ledger, studies: int) -> None:
    """`studies` copies of one study with its result, of which the latest are open and the others were read."""
    uid = "1.2.0"
    add_study(ledger, uid)
    commit_result(ledger, document(uid, None, set()))
    ledger.write(_complete)
    with ledger.read() as session:
        at = session.scalar(select(now())) or 0.0
        patterns = {mapper.class_: session.scalars(select(mapper.class_)).all() for mapper in Base.registry.mappers}
    number = func.generate_series(1, studies, type_=Integer).column_valued("number")
    for table in (Study, Series, Instance, Reception, Inference, Result, ResultImage, Picture, StoredObject, Delivery):
        for position, pattern in enumerate(patterns[table]):
            key = number * len(patterns[table]) + position + 1
            values = _copied(pattern) | _changed(table, number, key, position, studies, at)
            with ledger.engine.begin() as connection:
                connection.execute(insert(table).from_select(list(values), select(*values.values())))
                name = table.__tablename__
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"
                )
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


def _complete(session: Session) -> None:
    """What a study with a delivered result has besides."""
    result = session.scalars(select(Result)).one()
    instance = session.scalars(select(Instance)).one()
    image = session.scalars(select(ResultImage)).one()
    study = session.scalars(select(Study)).one()
    done = {"state": WorkState.DONE, "due_at": now(), "created_at": now(), "finished_at": now()}
    session.add(
        Reception(
            study_instance_uid=study.study_instance_uid,
            sop_instance_uid=instance.sop_instance_uid,
            file_sha256=instance.file_sha256,
            dataset_digest=instance.dataset_digest,
            calling_ae_title="XRAY",
            received_at=now(),
            outcome="new",
        )
    )
    session.add(Picture(result_image_id=image.id, bundle_digest=result.bundle_digest, sha256="0" * 64, **done))
    for rank, kind in enumerate((ResultObject.SEGMENTATION, ResultObject.REPORT)):
        stored = StoredObject(
            result_id=result.id,
            kind=kind,
            sop_instance_uid=generate_uid(prefix=None),
            series_instance_uid=generate_uid(prefix=None),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
            sha256="0" * 64,
            size_bytes=50_000,
        )
        session.add(stored)
        session.flush()
        session.add(Delivery(object_id=stored.id, result_id=result.id, destination="out", rank=rank, **done))


def _copied(pattern: Base) -> dict[str, ColumnElement[object]]:
    return {each.name: literal(getattr(pattern, each.key), each.type) for each in pattern.__table__.columns}


def _changed(
    table: type[Base], number: ColumnElement[int], key: ColumnElement[int], position: int, studies: int, at: float
) -> dict[str, ColumnElement[object]]:
    """What differs from copy to copy. Study, series, instance and so on of a copy have its number plus one as key."""
    own = number + 1
    text_of = cast(number, String)
    came = at - (studies - number) * (_YEARS_SECONDS / studies)
    is_open = number > studies - _OPEN
    changes: dict[type[Base], dict[str, object]] = {
        Study: {
            "study_instance_uid": "1.2." + text_of,
            "patient_id": "P" + text_of,
            "search_text": func.concat("patient^", func.chr(97 + number % 26), text_of, " p", text_of),
            "first_received_at": came,
            "last_received_at": came,
            "changed_at": came,
            "waiting_since": came,
            "due_at": case((is_open, came + 3600 * (1 + number % 24)), else_=null()),
            "read_state": case((is_open, literal(ReadState.NEW)), else_=literal(ReadState.READ)),
            "read_at": case((is_open, null()), else_=came + 1800),
            "urgency": case((number % 10 == 0, literal(Urgency.URGENT)), else_=literal(Urgency.ROUTINE)),
            "malpositioned_tube": number % 10 == 0,
        },
        Series: {"study_id": own, "series_instance_uid": "1.3." + text_of},
        Instance: {
            "series_id": own,
            "sop_instance_uid": "1.4." + text_of,
            "file_sha256": _digest("file", number),
            "dataset_digest": _digest("data", number),
            "pixel_digest": _digest("pixel", number),
            "header_digest": _digest("header", number),
            "received_at": came,
            "view": literal("PA"),
        },
        Reception: {
            "study_instance_uid": "1.2." + text_of,
            "sop_instance_uid": "1.4." + text_of,
            "file_sha256": _digest("file", number),
            "dataset_digest": _digest("data", number),
            "received_at": came,
        },
        Inference: {
            "pixel_digest": _digest("pixel", number),
            "file_sha256": _digest("file", number),
            "output_sha256": _digest("output", number),
            "finished_at": came,
        },
        Result: {
            "study_id": own,
            "document": func.replace(document("1.2.0", None, set()).model_dump_json(), "1.2.0", "1.2." + text_of),
            "created_at": came,
            "finished_at": came,
        },
        ResultImage: {
            "result_id": own,
            "instance_id": own,
            "inference_id": own,
            "file_sha256": _digest("file", number),
        },
        Picture: {"result_image_id": own, "sha256": _digest("picture", number), "finished_at": came},
        StoredObject: {
            "result_id": own,
            "sop_instance_uid": f"1.5.{position}." + text_of,
            "series_instance_uid": f"1.6.{position}." + text_of,
            "sha256": _digest(f"object{position}", number),
        },
        Delivery: {"result_id": own, "object_id": key, "created_at": came, "finished_at": came},
    }
    return {"id": key} | changes[table]  # type: ignore[return-value]


def _digest(what: str, number: ColumnElement[int]) -> ColumnElement[str]:
    first, second = (func.md5(func.concat(what, half, number)) for half in "ab")
    return func.concat(first, second)


# --- Measuring --------------------------------------------------------------------------------------------------------


def _print_queries(full: Measured, empty: Measured, console: Console) -> None:
    questions: dict[str, Callable[[Measured], object]] = {
        "worklist, with counts": _listed(Selection()),
        "worklist, third page": _listed(Selection(page=2)),
        "worklist, flagged": _listed(Selection(flagged=True)),
        "worklist, search among the open": _listed(Selection(search="patient^c")),
        "read studies, first page": _listed(Selection(show=Show.READ)),
        "all studies, first page": _listed(Selection(show=Show.ALL)),
        "all studies, search for a name": _listed(Selection(show=Show.ALL, search="p123456")),
        "sweep": lambda each: each.sweep.once(),
        "figures of the metrics": lambda each: _in_session(each, lambda s: read_figures(s, each.settings)),
    }
    table = Table("query", "full p50 ms", "p95 ms", f"{_OPEN} alone p50 ms", "ratio", title="queries")
    for name, question in questions.items():
        times: dict[str, list[float]] = {}
        for each in (full, empty):
            times[each.name] = sorted(_timed(question, each) for _ in range(_QUERIES))[: _QUERIES - 1]
        p50, floor = median(times["full"]), median(times["empty"])
        p95 = quantiles(times["full"], n=20)[-1]
        table.add_row(name, *(f"{1000 * seconds:.1f}" for seconds in (p50, p95, floor)), f"{p50 / floor:.2f}")
    console.print(table)


def _listed(selection: Selection) -> Callable[[Measured], object]:
    return lambda each: _in_session(each, lambda session: read_worklist(session, selection))


def _in_session(each: Measured, query: Callable[[Session], object]) -> object:
    with each.ledger.read() as session:
        return query(session)


def _timed(question: Callable[[Measured], object], each: Measured) -> float:
    started = perf_counter()
    question(each)
    return perf_counter() - started


def _print_intake(full: Measured, empty: Measured, associations: int, folder: Path, console: Console) -> None:
    write_phantom(folder / "pattern.dcm", rows=256, columns=256)
    pattern = dcmread(folder / "pattern.dcm")
    numbers = count()
    rates: dict[str, list[float]] = {full.name: [], empty.name: []}
    for _ in range(_ROUNDS + 1):
        for each in (full, empty):
            files = [_new_image(pattern, each.store.incoming, next(numbers)) for _ in range(_IMAGES)]
            started = perf_counter()
            with ThreadPoolExecutor(associations) as pool:
                list(pool.map(lambda path, desk=each.desk: desk.take(read_received(path), "XRAY", monotonic()), files))
            rates[each.name].append(_IMAGES / (perf_counter() - started))
    # The first round of each fills caches.
    full_rate, empty_rate = (median(rates[each.name][1:]) for each in (full, empty))
    table = Table("intake", "images/s", title=f"{associations} at a time, 130 KB each, file and ledger on the disk")
    table.add_row("full ledger", f"{full_rate:.0f}")
    table.add_row("empty ledger", f"{empty_rate:.0f}")
    table.add_row("ratio", f"{full_rate / empty_rate:.2f}")
    console.print(table)


def _new_image(pattern: Dataset, folder: Path, number: int) -> Path:
    """The image as a study of its own, with pixels of its own."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(pattern, keyword, generate_uid(prefix=None))
    pattern.file_meta.MediaStorageSOPInstanceUID = pattern.SOPInstanceUID
    pattern.PixelData = number.to_bytes(4, "little") + pattern.PixelData[4:]
    path = folder / f"{number}.dcm"
    pattern.save_as(path)
    return path


def _scalar(ledger: Ledger, statement: str) -> float:
    with ledger.engine.connect() as connection:
        return float(connection.exec_driver_sql(statement).scalar() or 0)


if __name__ == "__main__":
    main()
