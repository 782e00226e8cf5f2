"""`chexnode page`: the web server of the worklist page."""

import click
import structlog
import uvicorn

from node.ledger.database import ready_ledger
from node.monitoring.logs import configure_logs_of
from node.monitoring.metrics import watch_disk
from node.monitoring.presence import present
from node.page.app import create_page
from node.storage.stores import open_store
from node.supervisor import check_port
from schemas.settings import Settings, load_settings

log = structlog.get_logger()

#: How long open event streams may hold up the end of the process, seconds.
_GOODBYE_SECONDS = 2


@click.command("page")
def page_command() -> None:
    """Serve the worklist page and its API until SIGTERM."""
    settings = load_settings()
    configure_logs_of(settings)
    watch_disk(settings.home)
    check_port(settings.page.host, settings.page.port, "The worklist page", "CHEXNODE_PAGE__PORT (page.port)")
    ledger = ready_ledger(settings)
    app = create_page(settings, ledger, open_store(settings))
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
