"""Other people's DICOM tools: DCMTK and dicom3tools."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.peers import require


def dciodvfy_errors(path: Path) -> list[str]:
    """Lines of dciodvfy (dicom3tools) that report an error."""
    run = subprocess.run([require("dciodvfy"), str(path)], capture_output=True, check=False)
    said = (run.stdout + run.stderr).decode(errors="replace")
    return [line for line in said.splitlines() if line.startswith("Error")]


def echoscu(port: int, called: str = "CHEXNODE", calling: str = "TESTSCU") -> int:
    """Exit status of DCMTK's echoscu."""
    command = [require("echoscu"), "-aet", calling, "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def storescu(
    port: int, files: Sequence[Path], options: Sequence[str] = (), calling: str = "TESTSCU"
) -> subprocess.CompletedProcess[str]:
    """Run DCMTK's storescu, which names every response status with -v."""
    command = [require("storescu"), "-v", "-aet", calling, "-aec", "CHEXNODE", *options, "127.0.0.1", str(port)]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, errors="replace", check=False)
