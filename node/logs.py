"""Logging: structlog, one line per event on standard error; JSON when CHEXNODE_LOG_FORMAT=json.

Studies are named by UID, never a patient.
"""

import logging
import os
import sys

import structlog


def configure_logs(least: int = logging.INFO) -> None:
    """Set up logging for a process of the node. Called once by each command.

    Parameters
    ----------
    least : level from which on events are shown; commands that print what they did leave out INFO
    """
    renderers: list[structlog.typing.Processor]
    if os.environ.get("CHEXNODE_LOG_FORMAT") == "json":
        # Without local variables: they hold data sets, and so patients' names.
        exceptions = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderers = [structlog.processors.ExceptionRenderer(exceptions), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # They log header values, patient names among them.
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
