"""For whoever watches the node: /metrics, /health/live and /health/ready. Without a login, and without patients' data.

docs/monitoring.md says what they mean.
"""

import ipaddress
from dataclasses import asdict

from fastapi import APIRouter, Request
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import JSONResponse, PlainTextResponse, Response

from node.monitoring.exposition import exposition
from node.monitoring.health import readiness
from node.monitoring.watch import Watch
from node.page.addresses import address_of, is_loopback, is_proxied, names_this_host
from node.page.context import page_of

router = APIRouter()

_METRICS = "/metrics"
_LIVE = "/health/live"
_READY = "/health/ready"
#: Addresses that ask for no visitor.
OPEN_PATHS = {_METRICS, _LIVE, _READY}

_REFUSED = (
    "The metrics are for this host and the networks in metrics.allowed_networks of the settings; a proxy in front has "
    "to be named in page.trusted_proxies.\n"
)


@router.get(_METRICS, include_in_schema=False)
def metrics(request: Request) -> Response:
    """Every figure of the node, for Prometheus."""
    if not _may_read_metrics(request):
        return PlainTextResponse(_REFUSED, 403)
    return Response(exposition(_watch(request).look()), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get(_LIVE, include_in_schema=False)
def live(request: Request) -> Response:
    """200 while this process answers: restart it when it does not."""
    return JSONResponse({"status": "alive"})


@router.get(_READY, include_in_schema=False)
def ready(request: Request) -> Response:
    """200 while the node does what it is for, else 503 with what stops it."""
    found = readiness(_watch(request).look())
    return JSONResponse(asdict(found), 200 if found.ready else 503)


def _watch(request: Request) -> Watch:
    watch: Watch = request.app.state.watch
    return watch


def _may_read_metrics(request: Request) -> bool:
    address, settings = address_of(request), page_of(request).settings
    proxied = is_proxied(request.headers, request.scope["http_version"])
    if is_loopback(address) and names_this_host(request.headers) and not proxied:
        return True
    # Behind a proxy that the settings name, the address is the client's.
    if not address or (proxied and not settings.page.trusted_proxies):
        return False
    return any(ipaddress.ip_address(address) in network for network in settings.metrics.allowed_networks)
