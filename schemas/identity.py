"""Who made an object: the names that CheXNode writes into DICOM objects, logs and messages."""

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

MANUFACTURER = "CheXNode"


@cache
def software_version() -> str:
    """Version of the installed distribution; in a checkout that is not installed, what its pyproject.toml says."""
    try:
        return metadata.version("chexnode")
    except metadata.PackageNotFoundError:
        pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
