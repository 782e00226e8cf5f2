"""Rendering of templates: one Jinja environment, autoescaped, with the filters that all pages share."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from node.page.visitor import Visitor
from schemas.identity import software_version

FOLDER = Path(__file__).parent


def duration(seconds: float) -> str:
    """A length of time as a reader says it: "under a minute", "12 min", "3 h 05 min", "2 d 4 h"."""
    minutes = int(abs(seconds) // 60)
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def clock(seconds: float | None, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Seconds since 1970 UTC as local time of this host; "" for None."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone().strftime(pattern)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "clock": clock}
    environment.globals["software_version"] = software_version()
    return environment


_ENVIRONMENT = _environment()


def render(name: str, visitor: Visitor | None, status_code: int = 200, **values: Any) -> HTMLResponse:
    """The template `name` with `values`; `visitor` is None on pages for which nobody needs to log in."""
    html = _ENVIRONMENT.get_template(name).render(visitor=visitor, **values)
    return HTMLResponse(html, status_code)
