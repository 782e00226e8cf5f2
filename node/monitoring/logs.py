"""Logging: structlog, one line per event on standard error, as text or JSON; libraries' messages go the same way.

Studies are named by UID, never a patient. What others say (an exception of a library, a peer's answer, a database's
refusal of a row) may hold what a header holds: logs name its kind and place, the ledger keeps the words
(`chexnode db status`). So exceptions are logged as they are, error=error, never as text.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError
from structlog.typing import EventDict, Processor, WrappedLogger

from node.monitoring.unfailing import UnfailingStream
from schemas.errors import ChexnodeError
from schemas.settings import LogFormat, LogLevel, Settings

_FORMAT_VARIABLE = "CHEXNODE_LOG_FORMAT"
_LEVEL_VARIABLE = "CHEXNODE_LOG_LEVEL"
#: They log header values, patient names among them, and so do warnings of theirs.
_TALKATIVE = ("pydicom", "pynetdicom", "highdicom", "py.warnings")
#: Packages whose exceptions hold our own words.
_OURS = ("schemas", "node", "workers", "training")


def configure_logs_of(settings: Settings) -> None:
    """Set up logging for a part of the node, as its settings say; its child processes do likewise."""
    os.environ[_FORMAT_VARIABLE] = settings.log_format
    os.environ[_LEVEL_VARIABLE] = settings.log_level
    configure_logs()
    sys.excepthook = _log_end


def configure_logs(least: LogLevel | None = None) -> None:
    """Set up logging for a process. Called once by each command.

    Parameters
    ----------
    least
        Level from which on events are shown; None: as the environment says, else "info". Libraries' from "warning" on.
    """
    level = logging.getLevelNamesMapping()[(least or _from_environment(_LEVEL_VARIABLE, LogLevel.INFO)).upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, *_renderers()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, UnfailingStream(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_without_exception_in_message)
    clean = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared], processors=[clean, *_renderers()]
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threading.excepthook = _log_thread


def words_of(error: BaseException) -> str:
    """What may be said of `error` in a log: our own words in full, of others' no more than what went wrong."""
    name = type(error).__name__
    if isinstance(error, ChexnodeError):
        return error.own_words
    if type(error).__module__.partition(".")[0] in _OURS:
        return f"{name}: {error}"
    if isinstance(error, DBAPIError):
        # The words of a refused row hold the row; those of a database that does not answer say why.
        kind = f"{name} ({type(error.orig).__name__})"
        said = str(error.orig).strip().partition("\n")[0]
        return f"{kind}: {said}" if isinstance(error, OperationalError) and said else kind
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    return name


def _renderers() -> list[Processor]:
    if _from_environment(_FORMAT_VARIABLE, LogFormat.TEXT) == LogFormat.JSON:
        return [_render_errors, structlog.processors.JSONRenderer(ensure_ascii=False)]
    return [_render_errors, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _render_errors(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Exceptions among the values in words; a traceback with places and words."""
    for key, value in event.items():
        if isinstance(value, BaseException) and key != "exc_info":
            event[key] = words_of(value)
    raised = event.pop("exc_info", None)
    if raised:
        if not isinstance(raised, BaseException):
            raised = raised[1] if isinstance(raised, tuple) else sys.exc_info()[1]
        if raised is not None:
            event["exception"] = _places(raised)
    return event


def _places(error: BaseException) -> str:
    """The traceback of `error` and of what caused it, the cause first."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_places(cause)}\nand then:\n" if cause is not None else ""
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{before}{frames}\n{words_of(error)}"


def _without_exception_in_message(record: logging.LogRecord) -> bool:
    """Celery writes the exception of a task into the message, beside the traceback: there in words."""
    if record.exc_info and record.exc_info[1] is not None and isinstance(record.args, Mapping):
        words = words_of(record.exc_info[1])
        record.args = {**record.args, "exc": words, "traceback": words}
    return True


def _log_end(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().critical("ended by an exception", exc_info=error)


def _log_thread(raised: threading.ExceptHookArgs) -> None:
    if raised.exc_value is not None and not isinstance(raised.exc_value, SystemExit):
        thread = raised.thread.name if raised.thread else ""
        structlog.get_logger().error("thread ended by an exception", thread=thread, exc_info=raised.exc_value)


def _from_environment(variable: str, default: Any) -> Any:
    """The value of a process whose parent has read the settings; `default` where there is none that is one."""
    try:
        return type(default)(os.environ.get(variable, default))
    except ValueError:
        return default
