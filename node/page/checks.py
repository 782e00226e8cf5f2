"""The checks of `chexnode doctor` on the page, for operators: what is wrong with the node, and what to do."""

import threading
import time
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from node.doctor.checks import run_checks, subjects
from node.doctor.verdict import summary, things_to_do
from node.page.context import page_of
from node.page.rendering import render
from node.page.visitor import Operator
from schemas.errors import PageBusyError

routes = APIRouter()

#: One run at a time: each takes a self-test, and stores objects at the destinations.
_running = threading.Lock()


@routes.get("/checks", include_in_schema=False)
def checks(request: Request, visitor: Operator) -> Response:
    """What will be checked, and the button."""
    situation = request.app.state.watch.look()
    return render(
        request, "checks.html", subjects=subjects(page_of(request).settings), verdicts=None, now=situation.alerts
    )


@routes.post("/checks/run", include_in_schema=False)
def run(request: Request, visitor: Operator, store: Annotated[bool, Form()] = False) -> Response:
    """Run every check with the settings that the page was started with; some seconds.

    `store`: whether test objects are stored at the destinations. Raises PageBusyError while somebody else's run goes.
    """
    settings = page_of(request).settings
    if not _running.acquire(blocking=False):
        raise PageBusyError("The checks are being run by somebody else; try again in a minute.")
    started = time.monotonic()
    try:
        verdicts = list(run_checks(settings, store=store))
    finally:
        _running.release()
    return render(
        request,
        "checks_result.html" if "HX-Request" in request.headers else "checks.html",
        subjects=subjects(settings),
        now=request.app.state.watch.look().alerts,
        verdicts=verdicts,
        to_do=things_to_do(verdicts),
        summary=summary(verdicts),
        seconds=time.monotonic() - started,
    )
