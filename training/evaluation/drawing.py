"""Films drawn by two processes, a few ahead of who reads them. Called by films.py and refusals.py."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from training.rendering import render_processes

_Wanted = TypeVar("_Wanted")
_Film = TypeVar("_Film")

#: A film with its masks is ten megabytes: not all at once.
_AHEAD = 8
#: So few are drawn before processes for it have started.
_FEW = 12


def drawn(draw: Callable[[_Wanted], _Film], wanted: Sequence[_Wanted]) -> Iterator[_Film]:
    """What `draw`, which has to travel to other processes, makes of each of `wanted`, in their order."""
    if len(wanted) <= _FEW:
        yield from map(draw, wanted)
        return
    with render_processes() as processes:
        waiting: deque[Future[_Film]] = deque()
        for each in wanted:
            waiting.append(processes.submit(draw, each))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
