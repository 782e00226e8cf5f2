"""OHIF's files as the page serves them."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from node.ledger.database import upgrade
from node.ledger.ledger import Ledger
from node.page import accounts
from node.page.app import create_page
from node.storage.object_store import FolderObjectStore
from schemas.account_tables import Role
from schemas.settings import OrthancDestination, PageSettings, Settings

SCRIPT = b"'use strict';" * 500


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as an installed viewer."""
    folder = tmp_path_factory.mktemp("build") / "ohif"
    (folder / "assets").mkdir(parents=True)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "index.html").write_text('<script>window.PUBLIC_URL="/viewer/"</script>')
    (folder / "app.bundle.0f6159c501addfe9.js").write_bytes(SCRIPT)
    (folder / "app.bundle.0f6159c501addfe9.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "app.bundle.css").write_text("body{}")
    (folder / "0ddf166f7a343eda.wasm").write_bytes(b"\0asm")
    (folder / "assets" / "favicon.ico").write_bytes(b"icon")
    return folder


@pytest.fixture(scope="module")
def client(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    destination = OrthancDestination(name="pacs", url="http://127.0.0.1:1")
    settings = Settings(home=home, destinations=[destination], page=PageSettings(viewer=build))
    ledger = Ledger(settings.resolved_ledger_url)
    upgrade(ledger)
    app = create_page(settings, ledger, FolderObjectStore(home / "objects"))
    with TestClient(app, "http://localhost", client=("127.0.0.1", 50000), follow_redirects=False) as client:
        yield client
    ledger.close()


@pytest.mark.parametrize(
    ("path", "media_type", "kept"),
    [
        ("app.bundle.0f6159c501addfe9.js", "text/javascript", True),
        ("0ddf166f7a343eda.wasm", "application/wasm", True),
        ("app.bundle.css", "text/css", False),
        ("assets/favicon.ico", "image/x-icon", False),
        ("index.html", "text/html", False),
        ("app-config.js", "text/javascript", False),
    ],
)
def test_each_kind_of_file_has_its_type_and_hashed_ones_are_kept(
    client: TestClient, path: str, media_type: str, kept: bool
) -> None:
    answer = client.get(f"/viewer/{path}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert ("immutable" in answer.headers["Cache-Control"]) is kept
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_the_viewer_may_talk_to_nobody_but_this_server(client: TestClient) -> None:
    policy = client.get("/viewer/viewer?StudyInstanceUIDs=1.2").headers["Content-Security-Policy"]
    sources = {each.split()[0]: each.split()[1:] for each in policy.split("; ")}
    assert sources["default-src"] == ["'none'"]
    assert sources["connect-src"] == ["'self'", "data:", "blob:"]
    assert "http" not in policy and "*" not in policy


@pytest.mark.parametrize("path", ["viewer?StudyInstanceUIDs=1.2.3", "viewer/", "segmentation?StudyInstanceUIDs=1.2"])
def test_addresses_of_the_viewers_own_are_its_index(client: TestClient, path: str) -> None:
    answer = client.get(f"/viewer/{path}")
    assert answer.status_code == 200 and "PUBLIC_URL" in answer.text


def test_the_root_leads_to_the_worklist(client: TestClient) -> None:
    answer = client.get("/viewer/")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/")


def test_scripts_come_compressed_to_who_takes_it_and_are_the_same(client: TestClient) -> None:
    path = "/viewer/app.bundle.0f6159c501addfe9.js"
    packed = client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
    assert int(packed.headers["Content-Length"]) < len(SCRIPT) == int(plain.headers["Content-Length"])
    assert packed.content == plain.content == SCRIPT
    assert "Accept-Encoding" in packed.headers["Vary"]


def test_what_is_known_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/viewer/app.bundle.css").headers["ETag"]
    again = client.get("/viewer/app.bundle.css", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["../secret.txt", "%2e%2e/secret.txt", "assets/..%2f..%2fsecret.txt", "no.js", "a\0.js"]
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    answer = client.request("GET", "http://localhost/viewer/x", extensions={"target": f"/viewer/{path}".encode()})
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["missing.js", "assets/missing.png", "missing.wasm"])
def test_a_missing_file_is_missing_and_no_index(client: TestClient, path: str) -> None:
    assert client.get(f"/viewer/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/viewer/viewer?StudyInstanceUIDs=1.2", "/viewer/app.bundle.css", "/pacs/studies"])
def test_who_is_not_logged_in_gets_neither_viewer_nor_images(build: Path, tmp_path: Path, path: str) -> None:
    destination = OrthancDestination(name="pacs", url="http://127.0.0.1:1")
    settings = Settings(home=tmp_path, destinations=[destination], page=PageSettings(viewer=build))
    ledger = Ledger(settings.resolved_ledger_url)
    upgrade(ledger)
    ledger.write(lambda session: accounts.add(session, "reader", "no hash", Role.READER))
    app = create_page(settings, ledger, FolderObjectStore(tmp_path / "objects"))
    with TestClient(app, "http://localhost", client=("127.0.0.1", 50000), follow_redirects=False) as client:
        answer = client.get(path, headers={"Accept": "*/*", "Sec-Fetch-Dest": "empty"})
    ledger.close()
    assert answer.status_code == 401
    assert "PUBLIC_URL" not in answer.text and "body{}" not in answer.text


def test_without_a_viewer_it_says_so(tmp_path: Path) -> None:
    destination = OrthancDestination(name="pacs", url="http://127.0.0.1:1")
    settings = Settings(home=tmp_path, destinations=[destination], page=PageSettings(viewer=tmp_path / "none"))
    ledger = Ledger(settings.resolved_ledger_url)
    upgrade(ledger)
    app = create_page(settings, ledger, FolderObjectStore(tmp_path / "objects"))
    with TestClient(app, "http://localhost", client=("127.0.0.1", 50000)) as client:
        answer = client.get("/viewer/viewer?StudyInstanceUIDs=1.2")
    ledger.close()
    assert answer.status_code == 404 and "make viewer" in answer.text
