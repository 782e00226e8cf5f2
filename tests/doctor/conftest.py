"""Settings of a node that is not there, and ones with a migrated, empty ledger on both databases."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.settings import DicomSettings, PageSettings, Settings
from tests.conftest import Mode
from tests.support.processes import free_port


@pytest.fixture
def bare(tmp_path: Path) -> Settings:
    """Nothing was ever started with these: no home, no ledger."""
    return Settings(
        home=tmp_path / "home",
        dicom=DicomSettings(port=free_port(), calling_ae_titles=["TESTSCU"]),
        page=PageSettings(port=free_port()),
    )


@pytest.fixture
def prepared(bare: Settings, mode: Mode) -> Settings:
    """The same with a ledger and a broker, and no part running."""
    bare.home.mkdir()
    ledger_url = mode.migrated(bare.home)
    return bare.model_copy(update={"ledger_url": ledger_url, "broker_url": mode.broker_url()})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a tmpfs of 4 MB; called again with options ("ro") it is mounted anew with them."""
    folder = tmp_path / "disk"

    def mount(*options: str) -> Path:
        remount = ["remount"] if folder.exists() else []
        folder.mkdir(exist_ok=True)
        wanted = ",".join([*remount, "size=4m", *options])
        run = subprocess.run(["mount", "-t", "tmpfs", "-o", wanted, "tmpfs", folder], capture_output=True, check=False)
        if run.returncode:
            pytest.skip("a tmpfs cannot be mounted here (it takes root)")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)
