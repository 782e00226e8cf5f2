"""The alerts of which no other check tells: what destinations and studies are waiting for somebody to look at."""

from collections.abc import Iterator

from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, skipped, warning
from node.monitoring.alerts import AlertName, Situation, examine
from schemas.settings import Settings

_NAMES = (AlertName.DESTINATION_DOWN, AlertName.DEAD_LETTERS, AlertName.NOT_COMMITTED, AlertName.QUARANTINE)


def alerts_subject(settings: Settings) -> Subject:
    """Checks of the states that are held in the ledger."""

    def check(judge: Judge) -> Iterator[Verdict]:
        situation = examine(settings)
        for name in _NAMES:
            yield judge(f"alerts.{name}", lambda name=name: _finding(situation, name))  # type: ignore[misc]

    return Subject("alerts", _NAMES, check)


def _finding(situation: Situation, name: AlertName) -> Finding:
    if situation.figures is None:
        return skipped("cannot be looked up, the ledger does not answer")
    found = [each for each in situation.alerts if each.name == name]
    if not found:
        return ok("nothing to tell")
    words, to_do = "; ".join(each.found for each in found), " ".join(dict.fromkeys(each.to_do for each in found))
    return failed(words, to_do) if name == AlertName.DESTINATION_DOWN else warning(words, to_do)
