"""Starts a part of the node so that it can be made to die at a named state: `python -m tests.faults.launcher PART`.

The product has no switches for tests: the functions at the states are wrapped here before the part starts. A part dies
at a state when the file of that name lies in the folder of the orders (Orders), which a test puts there.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import Any

from tests.faults.disk import Journal
from tests.faults.states import STATES, At, Call, Commit, State

#: Environment: the folder of the orders, and the protection that is taken out; empty: none.
FOLDER = "CHEXNODE_TEST_FAULTS"
MUTANT = "CHEXNODE_TEST_MUTANT"


class Action(StrEnum):
    """What happens to the part that reaches a state."""

    #: kill -9 of itself.
    KILL = "kill"
    #: SIGSTOP: until somebody continues it, it neither works nor renews its leases.
    FREEZE = "freeze"


class Orders:
    """The states at which parts are to die, as files, since the parts are other processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reached = folder.with_name("reached")
        for each in (folder, self._reached):
            each.mkdir(parents=True, exist_ok=True)

    def give(self, state: State, action: Action) -> None:
        """Whoever reaches the state first carries it out, once."""
        draft = self._folder / "draft"
        draft.write_text(action)
        draft.rename(self._folder / state.name)

    def withdraw(self) -> None:
        for each in self._folder.iterdir():
            each.unlink(missing_ok=True)

    def reached(self) -> set[str]:
        """Names of the states that any part has come to, with or without an order."""
        return {each.name for each in self._reached.iterdir()}

    def carry_out(self, state: State) -> None:
        """Called by the part that has reached `state`."""
        (self._reached / state.name).touch()
        order = self._folder / state.name
        try:
            action = Action(order.read_text())
            order.unlink()
        except FileNotFoundError:
            return
        if action is Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            _Connections.freeze()


def main() -> None:
    """Wrap the states of the part that sys.argv names, remove what a mutant lacks, and become the part."""
    part, folder = sys.argv[1], Path(os.environ[FOLDER])
    orders = Orders(folder / "orders")
    for state in STATES:
        if state.part == part:
            _watch(state, partial(orders.carry_out, state))
    _Connections.watch()
    Journal(folder / "journal").record()
    if mutant := os.environ.get(MUTANT):
        from tests.faults.mutants import BY_NAME

        BY_NAME[mutant].remove()
    from schemas.command_line import main as chexnode

    sys.argv[0] = "chexnode"
    chexnode()


def wrap(owner: str, function: str, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `wrapped(original)` in the place of a function, also in modules that have imported it by name."""
    module_name, _, class_name = owner.partition(":")
    module = importlib.import_module(module_name)
    holder = getattr(module, class_name) if class_name else module
    original = getattr(holder, function)
    replacement = wrapped(original)
    setattr(holder, function, replacement)
    if not class_name:
        for each in list(sys.modules.values()):
            for name, value in list(vars(each).items()):
                if value is original:
                    setattr(each, name, replacement)


def _watch(state: State, reached: Callable[[], None]) -> None:
    if isinstance(state.where, Commit):
        _Commits.watch(state.where, reached)
        return
    at: At = state.where

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def call(*arguments: Any, **keywords: Any) -> Any:
            if not at.after and at.when(Call(arguments, None)):
                reached()
            result = original(*arguments, **keywords)
            if at.after and at.when(Call(arguments, result)):
                reached()
            return result

        return call

    wrap(at.owner, at.function, wrapped)


class _Commits:
    """Knows what the transaction of each thread is about: the rows that it adds, and the work that it marks done."""

    _watched: list[tuple[Commit, Callable[[], None]]] = []
    _about = threading.local()

    @classmethod
    def watch(cls, commit: Commit, reached: Callable[[], None]) -> None:
        if not cls._watched:
            cls._listen()
        cls._watched.append((commit, reached))

    @classmethod
    def _listen(cls) -> None:
        from sqlalchemy import Engine, event
        from sqlalchemy.orm import Session

        def about() -> set[tuple[str, bool]]:
            """Names of tables, and whether a row is added."""
            if not hasattr(cls._about, "tables"):
                cls._about.tables = set()
            tables: set[tuple[str, bool]] = cls._about.tables
            return tables

        def reach(*, after: bool) -> None:
            for commit, reached in cls._watched:
                if commit.after is after and (commit.table, commit.adds) in about():
                    reached()

        @event.listens_for(Session, "after_flush")
        def flushed(session: Session, context: object) -> None:
            about().update((type(row).__name__, True) for row in session.new)

        @event.listens_for(Engine, "commit")
        def committing(connection: object) -> None:
            reach(after=False)
            cls._about.committing = True

        @event.listens_for(Session, "after_commit")
        def committed(session: Session) -> None:
            # Also called for a savepoint, which is no commit.
            if getattr(cls._about, "committing", False):
                cls._about.committing = False
                reach(after=True)
                about().clear()

        @event.listens_for(Engine, "rollback")
        def rolled_back(connection: object) -> None:
            about().clear()

        def completing(original: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(original)
            def complete(session: Any, lease: Any, **values: Any) -> None:
                original(session, lease, **values)
                about().add((lease.table.__name__, False))

            return complete

        wrap("node.ledger.leases", "complete", completing)


class _Connections:
    """Lets the process freeze only while no other thread is at the ledger: its locks would be frozen with it."""

    #: Threads by the connection that they have.
    _out: dict[int, int] = {}
    _changed = threading.Condition()
    _freezing = False

    @classmethod
    def watch(cls) -> None:
        from sqlalchemy import event
        from sqlalchemy.pool import Pool

        @event.listens_for(Pool, "checkout")
        def checkout(connection: object, record: object, proxy: object) -> None:
            with cls._changed:
                cls._changed.wait_for(lambda: not cls._freezing)
                cls._out[id(record)] = threading.get_ident()

        @event.listens_for(Pool, "checkin")
        def checkin(connection: object, record: object) -> None:
            with cls._changed:
                cls._out.pop(id(record), None)
                cls._changed.notify_all()

    @classmethod
    def freeze(cls) -> None:
        with cls._changed:
            cls._freezing = True
            cls._changed.wait_for(lambda: set(cls._out.values()) <= {threading.get_ident()})
        os.kill(os.getpid(), signal.SIGSTOP)
        with cls._changed:
            cls._freezing = False
            cls._changed.notify_all()


if __name__ == "__main__":
    main()
