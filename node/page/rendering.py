"""Rendering of templates: one Jinja environment, autoescaped, with the filters that all pages share."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from node.monitoring.alerts import Alert
from node.page import words
from node.page.notice import NoticeBoard
from node.page.shown import all_tubes, by_urgency, lead, leading_finding, leading_reading, study_findings, uncleared
from node.page.visitor import visitor_of
from node.results import score_words, tube_words
from node.results.foremost import counted, foremost, tubes_first
from node.worklist import PAGE_ROWS
from schemas.account_tables import Role
from schemas.identity import software_version

FOLDER = Path(__file__).parent


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        each.__name__: each for each in (words.duration, words.clock, words.person_name, words.dicom_time, words.age)
    }
    functions = (
        tube_words.tube_words,
        tube_words.length_words,
        tube_words.side_words,
        tube_words.short_name,
        score_words.score_words,
        score_words.score_number,
        score_words.malposition_number,
        score_words.malposition_words,
        score_words.calibration_words,
        score_words.meaning_of_scores,
        words.target_words,
        words.segment_words,
        words.query,
        words.doubts,
        words.everywhere,
        words.said_of,
        words.identity,
        words.disagreements,
        words.is_named,
        words.engine_words,
        all_tubes,
        by_urgency,
        lead,
        leading_finding,
        leading_reading,
        study_findings,
        uncleared,
        foremost,
        tubes_first,
        counted,
    )
    environment.globals |= {each.__name__: each for each in functions}
    environment.globals |= {"software_version": software_version(), "page_rows": PAGE_ROWS}
    return environment


_ENVIRONMENT = _environment()


def render(request: Request, name: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """The template `name` with `values`, for the visitor of the request."""
    board: NoticeBoard = request.app.state.notice_board
    html = _ENVIRONMENT.get_template(name).render(
        visitor=visitor_of(request),
        notice=board.notice,
        alerts=_alerts(request),
        **values,
    )
    return HTMLResponse(html, status_code)


def _alerts(request: Request) -> list[Alert]:
    """The open alerts, for those who can do something about them."""
    visitor, watch = visitor_of(request), request.app.state.watch
    situation = watch.peek() if visitor and visitor.may(Role.OPERATOR) else None
    return situation.alerts if situation else []
