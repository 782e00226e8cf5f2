"""Where a request comes from: addresses, this host's names, traces of a proxy. Pure functions; used by the gate."""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

#: What a browser on this host calls it; the port does not matter.
_THIS_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
#: RFC 7239, RFC 9110 7.6.3, and what proxies send that know neither.
_PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
#: A subscriber of IPv6 has a whole /64 to change addresses in (RFC 4291 2.5.1).
_IPV6_SUBSCRIBER = 64


def address_of(connection: HTTPConnection) -> str:
    """Address that a request came from, IPv4-mapped ones as IPv4; "" for none (a socket file)."""
    return plain_address(connection.client.host if connection.client else "")


def plain_address(text: str) -> str:
    """One spelling for each address; "" for what is none."""
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_loopback(address: str) -> bool:
    """Whether `address` is this host's own: 127.0.0.0/8 or ::1."""
    return bool(address) and ipaddress.ip_address(address).is_loopback


def origin_of_attempts(address: str) -> str:
    """What attempts are counted by: the address, of IPv6 its /64."""
    if ":" not in address or is_loopback(address):
        return address
    return str(ipaddress.ip_network((address, _IPV6_SUBSCRIBER), strict=False))


def names_this_host(headers: Headers) -> bool:
    """Whether the Host header calls this host by a name that no other host can have.

    Against DNS rebinding: a foreign site can point its own name at 127.0.0.1, but its name stays in the header.
    """
    hosts = headers.getlist("host")
    return len(hosts) == 1 and _THIS_HOST.fullmatch(hosts[0]) is not None


def is_proxied(headers: Headers, http_version: str) -> bool:
    """Whether a proxy passed this request on, as far as can be told.

    Besides the headers that say so: HTTP/1.0, which no browser speaks but some proxies do towards the server behind
    them; and a Referer of the page itself that calls it by another name than this host's.
    """
    if http_version == "1.0" or any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in headers):
        return True
    own_page = headers.get("sec-fetch-site", "same-origin") == "same-origin"
    return own_page and _names_another_host(headers.get("referer", ""))


def _names_another_host(referrer: str) -> bool:
    try:
        place = urlsplit(referrer).netloc
    except ValueError:
        return True
    return bool(place) and _THIS_HOST.fullmatch(place) is None
