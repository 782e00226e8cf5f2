"""The viewer as the tests have it: the one that is installed, else one that npm fetches for them."""

import shutil
from pathlib import Path

import pytest

from node.page.viewer_package import check, default_folder, fetch, is_viewer, unpack


@pytest.fixture(scope="session")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an installed OHIF; skips the test where there is none and no npm."""
    if is_viewer(default_folder()):
        return default_folder()
    if shutil.which("npm") is None:
        pytest.skip("OHIF is not installed (make viewer) and there is no npm to fetch it with")
    folder = tmp_path_factory.mktemp("viewer") / "ohif"
    with fetch() as archive:
        check(archive)
        unpack(archive, folder)
    return folder
