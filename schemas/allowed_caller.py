"""One entry of the allow-list of senders: a calling AE title, and from where it may come.

Checked when the settings are read, applied by node/acceptor/admission.py.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: PS3.5 table 6.2-1, less the "@" that parts it from the address here.
_TITLE = re.compile(r"[ -?A-\[\]-~]{1,16}")


@dataclass(frozen=True)
class AllowedCaller:
    """An AE title, and the network that it may call from (None: anywhere)."""

    title: str
    network: Network | None = None

    def includes(self, title: str, address: Address) -> bool:
        """Whether this entry lets in a caller with that title from that address."""
        return title == self.title and (self.network is None or address in self.network)


def parse_caller(text: str) -> AllowedCaller:
    """Read "TITLE", "TITLE@ADDRESS" or "TITLE@NETWORK" (10.1.0.0/16). Raises ValueError that says what is wrong."""
    title, at, place = text.strip().partition("@")
    title = title.strip()
    if not _TITLE.fullmatch(title):
        raise ValueError(f"{title!r} is no AE title: 1 to 16 characters of ASCII without backslash and @")
    if not at:
        return AllowedCaller(title)
    try:
        return AllowedCaller(title, ipaddress.ip_network(place.strip()))
    except ValueError as error:
        raise ValueError(f"{text!r}: what follows @ is no address and no network: {error}") from error


def parse_address(text: str) -> Address:
    """The address of a peer; one of IPv4 that arrived at an IPv6 socket is one of IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
