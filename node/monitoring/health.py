"""Liveness and readiness: `chexnode health` for systemd and compose; the page answers the same by HTTP.

Ready means that the node does what it is for: no alert is there that stops it (node/monitoring/alerts.py).
"""

import socket
from dataclasses import dataclass

import click

from node.monitoring.alerts import Alert, Situation, examine
from schemas.settings import load_settings

_ROLES = ("node", "page", "worker", "delivery")


@dataclass(frozen=True)
class Readiness:
    """Whether the node does what it is for, and what stops it; no patient data, no host and no address."""

    ready: bool
    #: Names of alerts, with their subject where there are several.
    stopped_by: list[str]


def readiness(situation: Situation) -> Readiness:
    """What the situation means for those who route to the node."""
    stopping = sorted({each.name.value for each in situation.alerts if each.stops})
    return Readiness(not stopping, stopping)


@click.command("health")
@click.option("--part", type=click.Choice(_ROLES), help="This part of this host alone: is it there, and does it work?")
def health_command(part: str | None) -> None:
    """Say whether the node is ready; status 0 when it is, 1 when not, with what stops it.

    With --part only whether that part of this host shows signs of life; for the healthcheck of a container.
    """
    situation = examine(load_settings())
    if part is None:
        stopping = [each for each in situation.alerts if each.stops]
        for each in stopping:
            click.echo(_line(each))
        click.echo("not ready" if stopping else "ready")
        if stopping:
            raise click.exceptions.Exit(1)
        return
    if situation.figures is None:
        for each in situation.alerts:
            click.echo(_line(each))
        raise click.exceptions.Exit(1)
    here = socket.gethostname()
    found = [each.process_id for each in situation.figures.processes if each.role == part and each.host == here]
    click.echo(f"{part}: process {', '.join(map(str, found))}" if found else f"no {part} runs on {here}")
    if not found:
        raise click.exceptions.Exit(1)


def _line(alert: Alert) -> str:
    return f"{alert.name}{f' ({alert.subject})' if alert.subject else ''}: {alert.found}. {alert.to_do}"
