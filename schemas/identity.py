"""Who made an object: the names that CheXNode writes into DICOM objects, logs and messages."""

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

MANUFACTURER = "CheXNode"
#: Names the software as it speaks on the network (PS3.7 D.3.3.2); the same over its versions.
IMPLEMENTATION_CLASS_UID = "2.25.326837206406774749796989825118982356017"


@cache
def software_version() -> str:
    """Version of the installed distribution; in a checkout that is not installed, what its pyproject.toml says."""
    try:
        return metadata.version("chexnode")
    except metadata.PackageNotFoundError:
        pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])


def implementation_version_name() -> str:
    """Implementation Version Name, 1 to 16 characters (PS3.7 D.3.3.2)."""
    return f"CHEXNODE_{software_version()}"[:16]
