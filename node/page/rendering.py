"""Rendering of templates: one Jinja environment, autoescaped, with the filters that all pages share."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from node.page import words
from node.page.context import page_of
from node.page.shown import in_order, lead, leading_finding, study_findings
from node.page.visitor import visitor_of
from node.worklist import PAGE_ROWS
from schemas.codes import NOT_FOR_CLINICAL_USE
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
        words.tube_words,
        words.distance_words,
        words.target_words,
        words.segment_words,
        words.query,
        words.score_words,
        words.doubts,
        words.everywhere,
        words.said_of,
        words.identity,
        lead,
        leading_finding,
        study_findings,
        in_order,
    )
    environment.globals |= {each.__name__: each for each in functions}
    environment.globals |= {"software_version": software_version(), "page_rows": PAGE_ROWS}
    return environment


_ENVIRONMENT = _environment()


def render(request: Request, name: str, status_code: int = 200, **values: Any) -> HTMLResponse:
    """The template `name` with `values`, for the visitor of the request."""
    bundle = page_of(request).bundle
    html = _ENVIRONMENT.get_template(name).render(
        visitor=visitor_of(request),
        notice="" if bundle is not None and bundle.cleared_for_clinical_use else NOT_FOR_CLINICAL_USE,
        bundle=bundle,
        **values,
    )
    return HTMLResponse(html, status_code)
