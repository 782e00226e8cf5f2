"""`chexnode up`: the whole node on one host."""

import time
from collections.abc import Sequence

import click
from rich.console import Console

from node.bundles.activation import provide_shipped
from node.ledger.database import upgrade
from node.ledger.ledger import open_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.presence import present_roles
from node.queue import empty_file_broker
from node.supervisor import Part, Supervisor, check_port, chexnode_part, only_one, stop_signals
from schemas.settings import Settings, load_settings


def node_parts(settings: Settings) -> list[Part]:
    """The processes of a node with these settings."""
    parts = [chexnode_part("node", "node"), chexnode_part("page", "page"), chexnode_part("worker", "worker")]
    if settings.store.host:
        parts.append(chexnode_part("store", "store"))
    if settings.destinations:
        parts.append(chexnode_part("delivery", "delivery"))
    if settings.training.enabled:
        parts.append(chexnode_part("training", "train", "worker", needed=False))
    return parts


def page_address(settings: Settings) -> str:
    """Where the worklist page is, as a browser on this host reaches it."""
    page = settings.page
    host = "127.0.0.1" if page.host in ("0.0.0.0", "::", "") else page.host
    return f"{'https' if page.tls_certificate else 'http'}://{host}:{page.port}/"


def make_supervisor(settings: Settings, before: Sequence[Part] = ()) -> Supervisor:
    """Prepare home folder, broker and ledger, and the supervisor of all parts. Raises PortInUseError early."""
    dicom, page = settings.dicom, settings.page
    check_port(page.host, page.port, "The worklist page", "CHEXNODE_PAGE__PORT (page.port)")
    if dicom.plain:
        check_port(dicom.host, dicom.port, "The DICOM receiver", "CHEXNODE_DICOM__PORT (dicom.port)")
    if dicom.tls.certificate is not None:
        setting = "CHEXNODE_DICOM__TLS__PORT (dicom.tls.port)"
        check_port(dicom.host, dicom.tls.port, "The DICOM receiver over TLS", setting)
    if settings.store.host:
        check_port(settings.store.host, settings.store.port, "The object store", "CHEXNODE_STORE__PORT (store.port)")
    if not settings.broker_url:
        empty_file_broker(settings)
    ledger = open_ledger(settings)
    upgrade(ledger)
    provide_shipped(ledger, settings)
    return Supervisor([*before, *node_parts(settings)], settings.home / "logs")


@click.command("up")
def up_command() -> None:
    """Run the whole node on this host until Ctrl-C: receiver, worklist page, inference worker and delivery.

    Parts that die are restarted. Their logs are in HOME/logs.
    """
    settings = load_settings()
    configure_logs_of(settings)
    console = Console()
    with only_one(settings.home):
        supervisor = make_supervisor(settings)
        ledger = open_ledger(settings)
        dicom = settings.dicom
        console.print(f"starting; logs are in {settings.home / 'logs'}; Ctrl-C stops it")
        if not dicom.calling_ae_titles:
            console.print("[yellow]No calling AE title is allowed yet:[/] set dicom.calling_ae_titles.")
        if not settings.destinations:
            console.print(
                "[yellow]No destination is configured:[/] results stay in the ledger. Add \\[\\[destinations]]."
            )
        try:
            with stop_signals():
                supervisor.start()
                wanted = {part.name for part in supervisor.parts if part.needed}
                while not wanted <= present_roles(ledger):
                    supervisor.check()
                    time.sleep(0.2)
                ports = [str(dicom.port)] if dicom.plain else []
                if dicom.tls.certificate is not None:
                    ports.append(f"{dicom.tls.port} (TLS)")
                console.print(f"ready: [bold]{dicom.ae_title}[/] listens on {dicom.host}, port {' and '.join(ports)}")
                console.print(f"worklist: {page_address(settings)}", soft_wrap=True)
                supervisor.serve()
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            supervisor.stop()
