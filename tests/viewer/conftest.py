"""The viewer as the tests have it: the one that is installed, else one that npm fetches for them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.page.viewer_package import check, default_folder, fetch, is_viewer, unpack
from schemas.settings import OrthancDestination
from tests.viewer.proxy import Answer, Pacs, Page


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


@pytest.fixture
def page_for(tmp_path: Path) -> Iterator[Callable[[OrthancDestination | None], Page]]:
    pages: list[Page] = []

    def make(destination: OrthancDestination | None) -> Page:
        pages.append(Page(tmp_path / f"home{len(pages)}", destination))
        return pages[-1]

    yield make
    for each in pages:
        each.close()


@pytest.fixture
def behaving(page_for: Callable[[OrthancDestination | None], Page]) -> Iterator[Callable[..., tuple[Pacs, Page]]]:
    """A PACS that answers so, with a page before it."""
    servers: list[Pacs] = []

    def make(answer: Answer, **options: object) -> tuple[Pacs, Page]:
        pacs = Pacs(answer)
        servers.append(pacs)
        return pacs, page_for(OrthancDestination.model_validate({"name": "pacs", "url": pacs.url, **options}))

    yield make
    for each in servers:
        each.close()
