"""What differs over the hours of a day, as a command line states it: "8-18=45,18-8=6", or one number for all hours."""

import math

import click


def day_profile(text: str) -> tuple[float, ...]:
    """24 values from 0 on, 00:00-01:00 first. Raises click.BadParameter that says what is wrong."""
    hours: list[float | None] = [None] * 24
    for part in (part.strip() for part in text.split(",")):
        span, equals, amount = part.rpartition("=")
        begin, end = _span(span, part) if equals else (0, 24)
        for hour in range(begin, end if end > begin else end + 24):
            if hours[hour % 24] is not None:
                raise click.BadParameter(f"{text!r} says twice what is from {hour % 24} o'clock on.")
            hours[hour % 24] = _amount(amount, part)
    missing = [str(hour) for hour, amount in enumerate(hours) if amount is None]
    if missing:
        raise click.BadParameter(f"{text!r} leaves out what is from {', '.join(missing)} o'clock on.")
    return tuple(amount for amount in hours if amount is not None)


def whole_day_profile(text: str) -> tuple[float, ...]:
    """The same, of whole numbers."""
    profile = day_profile(text)
    for amount in profile:
        if amount != int(amount):
            raise click.BadParameter(f"{text!r}: {amount:g} is not a whole number.")
    return profile


def _span(span: str, part: str) -> tuple[int, int]:
    begin, _, end = (each.strip() for each in span.partition("-"))
    if not (begin.isdecimal() and end.isdecimal()):
        raise click.BadParameter(f"{part!r} is not HOUR-HOUR=NUMBER.")
    if max(int(begin), int(end)) > 24 or int(begin) == int(end):
        raise click.BadParameter(f"{part!r}: hours are 0 to 24, and the two differ.")
    return int(begin) % 24, int(end)


def _amount(amount: str, part: str) -> float:
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise click.BadParameter(f"{part!r}: {amount!r} is not a number from 0 on.")
    return number
