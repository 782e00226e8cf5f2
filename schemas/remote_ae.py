"""An application entity and where it listens, as the settings name it: TITLE@HOST:PORT.

Checked when the settings are read, used by whoever calls it.
"""

import re
from dataclasses import dataclass

#: PS3.5 table 6.2-1, less the "@" that parts it from the host here; a name, an IPv4 address or an IPv6 one in brackets.
_REMOTE_AE = re.compile(r"(?P<title>[ -?A-\[\]-~]{1,16})@(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:@\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class RemoteAe:
    """An AE title with its address."""

    title: str
    host: str
    port: int


def parse_remote_ae(text: str) -> RemoteAe:
    """Read "TITLE@HOST:PORT". Raises ValueError that says what is wrong."""
    match = _REMOTE_AE.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"{text!r} is not TITLE@HOST:PORT, for example MODALITY1@10.1.0.7:104")
    return RemoteAe(match["title"].strip(), match["host"].strip("[]"), int(match["port"]))
