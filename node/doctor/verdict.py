"""The verdict of one check, and how a check comes to it."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

_URL_PASSWORD = re.compile(r"(://[^\s/@:]*):[^\s/@]*@")
#: Longest answer of somebody else that is repeated, characters.
_SAID_LIMIT = 300


class Status(StrEnum):
    OK = "ok"
    #: It works, but somebody should know, or it will not work for long.
    WARNING = "warning"
    FAILED = "failed"
    #: Could not or was not to be checked; `found` says why.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Verdict:
    """What a check came to."""

    #: Subject and check, for example ledger.migrations; docs/doctor.md explains each.
    name: str
    status: Status
    found: str
    #: What to do about it; "" where nothing is to be done.
    to_do: str = ""
    #: How long the check took.
    seconds: float = 0.0


@dataclass(frozen=True)
class Finding:
    """What a check returns: the verdict without name and time."""

    status: Status
    found: str
    to_do: str = ""
    #: Words of somebody else (an error, an answer): repeated after `found`, without passwords.
    said: str = ""


def ok(found: str) -> Finding:
    return Finding(Status.OK, found)


def warning(found: str, to_do: str, said: object = "") -> Finding:
    return Finding(Status.WARNING, found, to_do, str(said))


def failed(found: str, to_do: str, said: object = "") -> Finding:
    return Finding(Status.FAILED, found, to_do, str(said))


def skipped(found: str) -> Finding:
    return Finding(Status.SKIPPED, found)


@dataclass(frozen=True)
class Judge:
    """Runs single checks: one that fails in a way nobody thought of becomes a verdict and stops no other."""

    #: Passwords of the settings: blotted out of what others say.
    secrets: Sequence[str] = ()

    def __call__(self, name: str, check: Callable[[], Finding]) -> Verdict:
        started = time.monotonic()
        try:
            finding = check()
        except Exception as error:  # noqa: BLE001 - whatever is wrong is what the doctor is there to tell
            finding = failed(
                "the check itself failed",
                "This is a fault of CheXNode: report it with this line.",
                f"{type(error).__name__}: {error}",
            )
        found = finding.found
        if finding.said:
            found += f": {self._without_secrets(finding.said)}"
        return Verdict(name, finding.status, found, finding.to_do, time.monotonic() - started)

    def _without_secrets(self, said: str) -> str:
        said = _URL_PASSWORD.sub(r"\1:***@", " ".join(said.split()))
        for secret in self.secrets:
            said = said.replace(secret, "***")
        return said if len(said) <= _SAID_LIMIT else said[:_SAID_LIMIT] + "..."


@dataclass(frozen=True)
class Subject:
    """Checks that belong together and build on each other; subjects are examined at the same time."""

    name: str
    #: What it checks; the verdicts are named SUBJECT.CHECK.
    checks: tuple[str, ...]
    examine: Callable[[Judge], Iterator[Verdict]]
    #: Longer than all its own time limits together: it has hung.
    seconds: float = 60.0


def things_to_do(verdicts: Iterable[Verdict]) -> list[tuple[Status, str, list[str]]]:
    """What is to be done, the failed first: status, what, and the names of the checks that ask for it."""
    wanted: dict[str, tuple[Status, list[str]]] = {}
    for status in (Status.FAILED, Status.WARNING):
        for verdict in verdicts:
            if verdict.status == status and verdict.to_do:
                wanted.setdefault(verdict.to_do, (status, []))[1].append(verdict.name)
    return [(status, to_do, checks) for to_do, (status, checks) in wanted.items()]


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many are what."""
    counts = Counter(verdict.status for verdict in verdicts)
    return ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
