"""What it takes for a rename to survive power loss."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """fsync the folder: a rename or a new file in it is on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
