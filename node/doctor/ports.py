"""Are the node's ports its own: taken by its own parts, or free for them?"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from node.doctor.listening import find_listener
from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from node.monitoring.presence import present_processes
from node.network.receivers import RECEIVER
from node.supervisor import check_port
from schemas.errors import PortInUseError, SettingsError
from schemas.settings import Settings
from schemas.tables import Process


@dataclass(frozen=True)
class _Port:
    """A port of the settings."""

    #: Role of the part that listens there.
    role: str
    what: str
    host: str
    port: int
    setting: str

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def ports_subject(settings: Settings) -> Subject:
    """Checks of the DICOM port and the page's port on this host."""
    dicom, page = settings.dicom, settings.page
    ports = {
        "dicom": _Port("node", "the DICOM receiver", dicom.host, dicom.port, "dicom.port (CHEXNODE_DICOM__PORT)"),
        "page": _Port("page", "the worklist page", page.host, page.port, "page.port (CHEXNODE_PAGE__PORT)"),
    }

    def examine(judge: Judge) -> Iterator[Verdict]:
        present = _present(settings)
        for name, port in ports.items():
            yield judge(f"ports.{name}", lambda port=port: _examine(port, present))  # type: ignore[misc]

    return Subject("ports", tuple(ports), examine)


def _examine(port: _Port, present: list[Process] | None) -> Finding:
    # Where there are several receivers, they listen and not the node process that started them.
    roles = {port.role, RECEIVER} if port.role == "node" else {port.role}
    own = [each for each in present or [] if each.role in roles]
    here = [each for each in own if each.host == socket.gethostname()]
    try:
        check_port(port.host, port.port, port.what, port.setting)
    except PortInUseError:
        return _taken(port, here, present is None)
    except SettingsError as error:
        return failed(
            f"{port.what} cannot listen on {port.address}",
            f"Correct {port.setting} and the host beside it; ports below 1024 need the right to use them.",
            error.__cause__ or error,
        )
    if here:
        return failed(
            f"{port.address} is free although {port.what} runs as process {here[0].process_id}",
            f"It was started with other settings: restart chexnode {port.role}.",
        )
    elsewhere = f"; {port.what} runs on {own[0].host}" if own else ""
    return ok(f"{port.address} is free for {port.what}{elsewhere}")


def _taken(port: _Port, here: list[Process], unknown: bool) -> Finding:
    listener = find_listener(port.host, port.port)
    who = str(listener) if listener else "a process that this user may not see"
    to_do = f"Stop it, or set {port.setting} to a free port."
    if unknown:
        return warning(f"{port.address} is taken by {who}; without the ledger it cannot be told whose it is", to_do)
    if listener is None and here:
        return ok(f"{port.address} is in use, and {port.what} runs as process {here[0].process_id}")
    if listener and listener.process_id in {each.process_id for each in here}:
        return ok(f"{port.what} listens on {port.address}, {who}")
    return failed(f"{port.address} is taken by {who}, which is not {port.what} of this node", to_do)


def _present(settings: Settings) -> list[Process] | None:
    """Every part that is present; None when the ledger does not say."""
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            return present_processes(session)
    except (LedgerUnavailableError, SQLAlchemyError):
        return None
