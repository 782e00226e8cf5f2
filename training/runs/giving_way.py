"""How a process gives way to all others of its host. Called by the training worker."""

import os
from pathlib import Path

import structlog

log = structlog.get_logger()

_NICENESS = 19


def give_way() -> None:
    """Let this process, and what it starts, have what no other process of the host wants.

    Each session has a scheduling group of its own (sched(7), "The autogroup feature"), and niceness counts only within
    one: the group needs it too.
    """
    os.nice(_NICENESS)
    group = Path("/proc/self/autogroup")
    if group.exists():
        try:
            group.write_text(str(_NICENESS))
        except OSError as error:
            log.warning("this host lets no scheduling group give way", error=error)
