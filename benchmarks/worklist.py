"""The page with many open studies: `python -m benchmarks.worklist [--studies 10000] [--production]`.

Prints the time of the worklist query (also with a search), beside the same fifty rows fetched by their primary keys in
the same run (the floor), the first paint in Chromium, and the time from the commit of a result to the changed order on
the screen.
"""

import argparse
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from playwright.sync_api import Page
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from benchmarks.running_node import add_production, measured_node
from node.intake.study_description import searchable
from node.ledger.ledger import Ledger, now
from node.reading import settle
from node.worklist import PAGE_ROWS, Selection, read_rows, read_worklist
from schemas.result import StudyResult, Urgency
from schemas.settings import AllowedWaits
from schemas.tables import Instance, Picture, Result, ResultImage, Series, Study, WorkState
from tests.support.browser import chromium
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

_WAITS = AllowedWaits()
_QUERIES = 200
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_COMMITS = 30


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    add_production(parser)
    arguments = parser.parse_args()
    console = Console(width=110)
    with measured_node(production=arguments.production) as measured:
        node = measured.node
        node.start("node", "worker", "page")
        _first_study(node, measured.folder)
        _fill(node.ledger, arguments.studies, console)
        _print(node, arguments.studies, "PostgreSQL" if arguments.production else "SQLite", console)


def _first_study(node: LiveNode, folder: Path) -> None:
    """A real result with real pictures, which all the others then show."""

    def today(dataset: object) -> None:
        dataset.StudyDate = ""  # type: ignore[attr-defined]

    write_phantom(folder / "phantom.dcm", 12, "malpositioned", rows=2048, columns=1706, change=today)
    assert node.send(folder / "phantom.dcm")[0].accepted

    def drawn() -> bool:
        with node.ledger.read() as session:
            return session.scalar(select(Picture.id).where(Picture.state == WorkState.DONE)) is not None

    wait_for("the pictures of the first study", drawn)


def _fill(ledger: Ledger, studies: int, console: Console) -> None:
    """Copies of the first study under other patients, spread over a day, a tenth of them flagged."""
    chance = random.Random(1)
    with ledger.read() as session:
        study = session.scalars(select(Study)).one()
        series = session.scalars(select(Series)).one()
        instance = session.scalars(select(Instance)).one()
        result = session.scalars(select(Result)).one()
        image = session.scalars(select(ResultImage)).one()
        picture = session.scalars(select(Picture)).one()
    for start in track(range(1, studies, 1000), "filling the ledger", console=console, transient=True):
        numbers = range(start, min(start + 1000, studies))
        rows: dict[type, list[dict[str, object]]] = {
            each: [] for each in (Study, Series, Instance, Result, ResultImage, Picture)
        }
        for number in numbers:
            urgency = chance.choices(list(Urgency), [1, 2, 3, 4])[0]
            waiting_since = (study.waiting_since or 0) - chance.uniform(0, 14 * 60)
            name = f"Patient^{chance.choice('ABCDEFGHIJ')}{number}"
            key = number + 1
            own = {"id": key, "study_instance_uid": f"1.2.{number}", "patient_name": name, "patient_id": f"P{number}"}
            place = {"waiting_since": waiting_since, "due_at": waiting_since + getattr(_WAITS, urgency) * 60}
            flag = {"urgency": urgency, "malpositioned_tube": urgency is Urgency.IMMEDIATE}
            text = {"search_text": searchable(f"{name} P{number}")}
            document = StudyResult.model_validate_json(result.document or "").model_copy(
                update={"study_instance_uid": f"1.2.{number}", "urgency": urgency}
            )
            rows[Study].append(_copy(study, **own, **place, **flag, **text))
            rows[Series].append(_copy(series, id=key, study_id=key, series_instance_uid=f"1.3.{number}"))
            rows[Instance].append(_copy(instance, id=key, series_id=key, sop_instance_uid=f"1.4.{number}"))
            rows[Result].append(_copy(result, id=key, study_id=key, document=document.model_dump_json()))
            rows[ResultImage].append(_copy(image, id=key, result_id=key, instance_id=key))
            rows[Picture].append(_copy(picture, id=key, result_image_id=key))
        ledger.write(partial(_insert, rows))


def _copy(row: Study | Series | Instance | Result | ResultImage | Picture, **changes: object) -> dict[str, object]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns} | changes


def _insert(rows: dict[type, list[dict[str, object]]], session: Session) -> None:
    for table, values in rows.items():
        session.execute(insert(table), values)


def _print(node: LiveNode, studies: int, name: str, console: Console) -> None:
    table = Table("what", "p50 ms", "p95 ms", "n", title=f"{name}, {studies} open studies, {PAGE_ROWS} rows a page")

    def add(what: str, seconds: list[float]) -> float:
        p95 = quantiles(seconds, n=20)[-1]
        table.add_row(what, f"{median(seconds) * 1000:.1f}", f"{p95 * 1000:.1f}", str(len(seconds)))
        return median(seconds)

    with node.ledger.read() as session:
        top = [row.study.id for row in read_worklist(session, Selection()).rows]
    query = add("query: worklist, with counts", _times(node.ledger, lambda s: read_worklist(s, Selection())))
    add("query: search for a name", _times(node.ledger, lambda s: read_worklist(s, Selection(search="patient a12"))))
    add("query: flagged alone", _times(node.ledger, lambda s: read_worklist(s, Selection(flagged=True, page=3))))
    floor = add("floor: the same rows by primary key", _times(node.ledger, partial(_by_key, top)))
    with chromium() as browser:
        paints, orders = [], []
        for _ in range(10):
            page = browser.new_page()
            page.goto(node.page_url)
            page.wait_for_selector(".study")
            paints.append(float(wait_for("the first paint", partial(page.evaluate, _FIRST_PAINT))) / 1000)
            page.close()
        add("first contentful paint", paints)
        page = browser.new_page()
        page.goto(node.page_url)
        page.wait_for_selector(".live.on")
        for number in range(_COMMITS):
            orders.append(_commit_to_screen(node.ledger, page, studies - 1 - number))
        add("result commit to changed order on the screen", orders)
    console.print(table)
    console.print(f"ratio of the query to the floor, median: {query / floor:.2f}")


def _times(ledger: Ledger, query: Callable[[Session], object]) -> list[float]:
    seconds = []
    for _ in range(_QUERIES):
        with ledger.read() as session:
            started = perf_counter()
            query(session)
            seconds.append(perf_counter() - started)
    return seconds[10:]


def _by_key(ids: list[int], session: Session) -> object:
    return read_rows(session, session.scalars(select(Study).where(Study.id.in_(ids))).all(), 0.0)


def _commit_to_screen(ledger: Ledger, page: Page, number: int) -> float:
    """A study of the end of the list gets a result that puts it first."""
    uid = f"1.2.{number}"

    def change(session: Session) -> None:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        result = session.scalars(select(Result).where(Result.study_id == study.id)).one()
        document = StudyResult.model_validate_json(result.document or "")
        flagged = document.model_copy(update={"urgency": Urgency.IMMEDIATE, "malpositioned_tube": True})
        result.document = flagged.model_dump_json()
        # It came long ago, and longer than the ones before it: the flag makes it the first of all.
        study.waiting_since = now() - 3600 * 24 * 30 + number * 60
        session.flush()
        session.refresh(study)
        settle(session, study, _WAITS)

    ledger.write(change)
    started = perf_counter()
    page.wait_for_selector(f".study:first-child[data-uid='{uid}']")
    return perf_counter() - started


if __name__ == "__main__":
    main()
