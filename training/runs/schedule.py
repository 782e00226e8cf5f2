"""The schedule of training: which moments of a crontab have come. Called by the training worker."""

from datetime import datetime

from celery.schedules import crontab
from celery.utils.time import timezone

#: More moments than this are not caught up with one by one.
_MOST = 10_000


def latest_moment(schedule: str, after: datetime, until: datetime) -> datetime | None:
    """The last moment of `schedule` (five fields of cron, local time) after `after` and not after `until`, or None.

    However many were missed, it is one.
    """
    cron = crontab.from_string(schedule)
    zone = timezone.local
    moment, latest = after.astimezone(zone), None
    for _ in range(_MOST):
        last, delta, _now = cron.remaining_delta(moment, tz=zone)
        moment = last + delta
        if moment > until:
            break
        latest = moment
    return latest
