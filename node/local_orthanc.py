"""A local Orthanc as an ordinary process with its own folder and port, answering this host only (for the demo).

Written for Orthanc 1.10 or later as Debian packages it; never touches the system service.
"""

import json
import os
import shutil
import time
from pathlib import Path

from node.delivery.orthanc import TimedOrthanc
from node.supervisor import Part

_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
URGENCY_METADATA = 4242


def find_orthanc() -> Path | None:
    """The Orthanc executable (CHEXNODE_ORTHANC, else the usual places), or None where it is not installed."""
    if named := os.environ.get("CHEXNODE_ORTHANC"):
        return Path(named) if Path(named).is_file() else None
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def orthanc_part(executable: Path, folder: Path, http_port: int) -> Part:
    """The part that runs Orthanc with its database in `folder`, on `http_port`."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    plugins = [
        str(plugin) for candidate in _PLUGIN_FOLDERS if (plugin := Path(candidate) / "libOrthancDicomWeb.so").exists()
    ]
    configuration = {
        "Name": "CheXNode demonstration PACS",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": plugins,
        "HttpPort": http_port,
        # Orthanc has no option for a listening address: it refuses other hosts instead.
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        # The default compresses every answer: 10 MB take 0.4 s instead of 7 ms.
        "HttpCompressionEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "UserMetadata": {"chexnode-urgency": URGENCY_METADATA},
        "StableAge": 2,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration, indent=2))
    return Part("orthanc", [str(executable), str(path)])


def wait_alive(url: str, seconds: float) -> bool:
    """Whether the server's REST API answers within `seconds`."""
    client = TimedOrthanc(url, None, None, 2.0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if client.is_alive():
            return True
        time.sleep(0.1)
    return False
