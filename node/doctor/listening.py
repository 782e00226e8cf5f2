"""Which process listens at a TCP port of this host, from /proc (proc(5)); who may not look at it sees no name."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
_ANY = {"0.0.0.0", "::"}


@dataclass(frozen=True)
class Listener:
    """A process and its command's name."""

    process_id: int
    name: str

    def __str__(self) -> str:
        return f"process {self.process_id} ({self.name})"


def find_listener(host: str, port: int) -> Listener | None:
    """The process that listens at `port` of `host` or of every address; None when there is none or it is hidden."""
    addresses = {host, _resolved(host), *_ANY}
    inodes = {
        inode
        for address, its_port, inode in _listening_sockets()
        if its_port == port and (address in addresses or host in _ANY)
    }
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(each.readlink()) in wanted for each in (process / "fd").iterdir()):
                return Listener(int(process.name), (process / "comm").read_text().strip())
        except OSError:
            continue  # it has ended, or it is somebody else's and we are not root
    return None


def _listening_sockets() -> Iterator[tuple[str, int, str]]:
    """Address, port and inode of every listening TCP socket."""
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue  # a host without IPv6
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, port = fields[1].split(":")
                yield _address(address, family), int(port, 16), fields[9]


def _address(text: str, family: socket.AddressFamily) -> str:
    """The address in its usual notation; the table holds it as 32-bit words of the host's byte order."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    address = socket.inet_ntop(family, b"".join(words))
    return address.removeprefix("::ffff:")


def _resolved(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host
