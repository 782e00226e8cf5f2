"""`chexnode page`: the web server of the worklist page."""

import click
import structlog
import uvicorn

from node.database import upgrade
from node.ledger import open_ledger
from node.logs import configure_logs
from node.object_store import FolderObjectStore
from node.page.app import create_page
from node.presence import present
from node.supervisor import check_port
from schemas.settings import Settings, load_settings

log = structlog.get_logger()

#: How long open event streams may hold up the end of the process, seconds.
_GOODBYE_SECONDS = 2


@click.command("page")
def page_command() -> None:
    """Serve the worklist page and its API until SIGTERM."""
    configure_logs()
    settings = load_settings()
    check_port(settings.page.host, settings.page.port, "The worklist page", "CHEXNODE_PAGE__PORT (page.port)")
    ledger = open_ledger(settings)
    upgrade(ledger)
    app = create_page(settings, ledger, FolderObjectStore(settings.home / "objects"))
    with present(ledger, "page"):
        uvicorn.Server(_configuration(settings, app)).run()


def _configuration(settings: Settings, app: object) -> uvicorn.Config:
    page = settings.page
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=page.host,
        port=page.port,
        ssl_certfile=page.tls_certificate,
        ssl_keyfile=page.tls_key,
        # What a proxy says of its client is believed only of proxies that the settings name.
        proxy_headers=bool(page.trusted_proxies),
        forwarded_allow_ips=[str(each) for each in page.trusted_proxies],
        server_header=False,
        # Addresses hold patients' names when somebody searches; the access log is the ledger's.
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
