"""The object store over HTTP: what goes in comes out on another host, whole or not at all, for those who may."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr, ValidationError

from node.bundles.files import bundle_path, fetch_files, keep_files
from node.doctor.store import store_subject
from node.doctor.verdict import Judge, Status, Verdict
from node.storage.http_store import HttpObjectStore
from node.storage.object_store import FolderObjectStore
from node.storage.store_cache import FileCache
from node.storage.store_server import create_store_server
from node.storage.stores import Stores, open_store, store_secret
from schemas.bundle import bundle_digest
from schemas.errors import (
    BundleError,
    ObjectMissingError,
    OutOfResourcesError,
    SettingsError,
    StoreUnavailableError,
)
from schemas.settings import Settings, StoreSettings
from tests.support.processes import free_port, wait_for

SECRET = "0123456789abcdef" * 4


class Host:
    """A host with a folder of objects that are served."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.store = FolderObjectStore(folder / "objects")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        app = create_store_server(self.store, self.home, SECRET)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_for("the store is served", lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "host")
    with host.serving():
        yield host


def client(host: Host, folder: Path, secret: str = SECRET, cache_bytes: int = 1 << 30) -> HttpObjectStore:
    return HttpObjectStore(host.url, StoreSettings(), secret, FileCache(folder / "cache", cache_bytes))


def test_what_another_host_puts_is_in_the_folder_and_comes_back_as_bytes_and_as_a_file(
    host: Host, tmp_path: Path
) -> None:
    there = client(host, tmp_path)
    content = bytes(range(256)) * 20_000  # more than one chunk
    sha256 = there.put(content)
    assert host.store.get(sha256) == content
    assert there.get(sha256) == content
    with there.file(sha256) as path:
        assert path.read_bytes() == content
    assert there.holds(sha256)
    assert not there.holds("0" * 64)
    empty = there.put(b"")
    assert there.get(empty) == b""


def test_without_the_secret_nothing_is_answered(host: Host, tmp_path: Path) -> None:
    sha256 = host.store.put(b"an image")
    for secret in ("f" * 64, SECRET[:-1], f"{SECRET}0"):
        with pytest.raises(StoreUnavailableError, match=r"store\.secret"):
            client(host, tmp_path, secret).get(sha256)
    assert httpx.get(f"{host.url}/objects/{sha256}").status_code == 401
    assert httpx.put(f"{host.url}/objects/{sha256}", content=b"x").status_code == 401
    assert list(host.store) == [sha256]


def test_bytes_that_are_not_what_their_name_says_are_refused_at_both_ends(host: Host, tmp_path: Path) -> None:
    wrong = hashlib.sha256(b"something else").hexdigest()
    headers = {"Authorization": f"Bearer {SECRET}"}
    assert httpx.put(f"{host.url}/objects/{wrong}", content=b"damaged", headers=headers).status_code == 422
    assert not host.store.holds(wrong)
    assert not list(host.store.incoming.iterdir())

    there = client(host, tmp_path)
    sha256 = there.put(b"an image")
    host.store.path(sha256).write_bytes(b"an imagf")
    with pytest.raises(ObjectMissingError, match="backup"):
        there.get(sha256)
    with pytest.raises(ObjectMissingError, match="backup"), there.file(sha256):
        pass
    assert not list((tmp_path / "cache").rglob("*/*")), "a damaged copy was kept"


@pytest.mark.parametrize("name", ["..%2f..%2fchexnode.toml", "ABC", "0" * 63, "incoming"])
def test_only_names_of_objects_are_names(host: Host, name: str) -> None:
    (host.home / "chexnode.toml").write_text("password")
    headers = {"Authorization": f"Bearer {SECRET}"}
    assert httpx.get(f"{host.url}/objects/{name}", headers=headers).status_code == 404
    assert httpx.get(f"{host.url}/bundles/{'0' * 64}/{name}", headers=headers).status_code == 404
    assert httpx.put(f"{host.url}/objects/{name}", headers=headers, content=b"").status_code == 404


def test_an_upload_that_breaks_off_leaves_nothing(host: Host) -> None:
    def half() -> Iterator[bytes]:
        yield bytes(3 << 20)
        raise RuntimeError("the worker was killed")

    headers = {"Authorization": f"Bearer {SECRET}", "Content-Length": str(6 << 20)}
    with pytest.raises(RuntimeError, match="killed"):
        httpx.put(f"{host.url}/objects/{'0' * 64}", headers=headers, content=half())
    wait_for("the draft is gone", lambda: not list(host.store.incoming.iterdir()))
    assert not list(host.store)


def test_a_host_without_room_is_out_of_resources_there_and_here(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **keywords: object) -> str:
        raise OutOfResourcesError("No space left on device.")

    monkeypatch.setattr(host.store, "adopt", full)
    with pytest.raises(OutOfResourcesError, match="free space there") as refused:
        client(host, tmp_path).put(b"x")
    assert refused.value.retryable and not refused.value.counts


def test_a_file_is_fetched_once_and_stays_while_it_is_read(host: Host, tmp_path: Path) -> None:
    there = client(host, tmp_path, cache_bytes=2500)
    objects = [host.store.put(bytes([number]) * 1000) for number in range(4)]
    with there.file(objects[0]) as first:
        host.store.path(objects[0]).unlink()
        for sha256 in objects[1:]:
            with there.file(sha256):
                pass
        assert first.read_bytes() == bytes(1000), "the copy went while it was read"
    kept = {path.name for path in (tmp_path / "cache" / "whole").iterdir()}
    assert kept == set(objects[2:]), "the least recently used goes first"
    assert not list((tmp_path / "cache" / "held").iterdir())
    with client(host, tmp_path).file(objects[3]) as path:
        host.store.path(objects[3]).unlink()
        assert path.read_bytes() == bytes([3]) * 1000, "another process of the host uses the same copies"
    with pytest.raises(ObjectMissingError), there.file(objects[0]):
        pass


def test_a_host_that_is_away_is_not_a_lost_object(host: Host, tmp_path: Path) -> None:
    away = Host(tmp_path / "away")
    sha256 = away.store.put(b"received there")
    both = Stores([host.store, client(away, tmp_path)])
    with pytest.raises(StoreUnavailableError) as held:
        both.get(sha256)
    assert held.value.retryable and not held.value.counts
    with pytest.raises(StoreUnavailableError), both.file(sha256):
        pass
    with away.serving():
        wait_for("it is asked again", lambda: not _is_away(both, sha256))
        assert both.get(sha256) == b"received there"
        assert both.holds(sha256)
        with both.file(sha256) as path:
            assert path.read_bytes() == b"received there"
        with pytest.raises(ObjectMissingError):
            both.get("0" * 64)


def _is_away(store: Stores, sha256: str) -> bool:
    try:
        return not store.holds(sha256)
    except StoreUnavailableError:
        return True


def test_what_is_made_goes_to_the_first_host_that_takes_it(host: Host, tmp_path: Path) -> None:
    away = Host(tmp_path / "away")
    sha256 = Stores([client(away, tmp_path), client(host, tmp_path)]).put(b"a result")
    assert host.store.get(sha256) == b"a result"
    with pytest.raises(StoreUnavailableError):
        Stores([client(away, tmp_path)]).put(b"a result")


def test_which_store_a_host_works_with(tmp_path: Path) -> None:
    def settings(store: StoreSettings) -> Settings:
        return Settings(home=tmp_path, store_urls=["http://127.0.0.1:1"], store=store)

    # A worker's host has no folder that anybody else could read: with its only store away, nothing is kept.
    with pytest.raises(StoreUnavailableError):
        open_store(settings(StoreSettings(secret=SecretStr(SECRET)))).put(b"x")
    assert not list(tmp_path.iterdir())
    # A second receiver's has.
    own = open_store(settings(StoreSettings(secret=SecretStr(SECRET), host="127.0.0.1")))
    assert own.get(own.put(b"x")) == b"x"
    assert isinstance(open_store(Settings(home=tmp_path)), FolderObjectStore)


def test_a_worker_without_the_nodes_disk_gets_the_bundle_from_its_store(host: Host, tmp_path: Path) -> None:
    source = tmp_path / "bundle"
    (source / "heads").mkdir(parents=True)
    (source / "manifest.json").write_text("{}")
    (source / "heads" / "a.safetensors").write_bytes(bytes(3_000_000))
    digest = keep_files(host.home, source)
    home = tmp_path / "worker"
    fetched = fetch_files(home, digest, [client(host, tmp_path)])
    assert fetched == bundle_path(home, digest)
    assert bundle_digest(fetched) == digest
    with pytest.raises(BundleError, match="activate"):
        fetch_files(home, "0" * 64, [client(host, tmp_path)])
    (bundle_path(host.home, digest) / "manifest.json").write_text("changed")
    with pytest.raises(BundleError):
        fetch_files(tmp_path / "other", digest, [client(host, tmp_path)])
    assert not list((tmp_path / "other" / "bundles").iterdir())


def test_there_is_no_default_secret_and_none_that_can_be_guessed(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert store_secret(Settings(store=StoreSettings(secret_file=file))) == SECRET
    assert store_secret(Settings(store=StoreSettings(secret=SecretStr(SECRET)))) == SECRET
    file.write_text("short")
    for store in (StoreSettings(), StoreSettings(secret=SecretStr("short")), StoreSettings(secret_file=file)):
        with pytest.raises(SettingsError, match="openssl rand"):
            store_secret(Settings(store=store))
    with pytest.raises(SettingsError, match="secret_file"):
        store_secret(Settings(store=StoreSettings(secret_file=tmp_path / "absent")))


def test_other_hosts_are_served_by_https_or_on_a_network_that_somebody_trusts() -> None:
    with pytest.raises(ValidationError, match="trusted_network"):
        StoreSettings(host="0.0.0.0")
    assert StoreSettings(host="0.0.0.0", trusted_network=True)
    assert StoreSettings(host="0.0.0.0", tls_certificate=Path("a"), tls_key=Path("b"))
    with pytest.raises(ValidationError, match="no http"):
        Settings(store_urls=["node:8090"])


def test_the_doctor_says_which_store_does_not_answer(host: Host, tmp_path: Path) -> None:
    def verdicts(secret: str, *urls: str) -> dict[str, Verdict]:
        settings = Settings(home=tmp_path, store_urls=list(urls), store=StoreSettings(secret=SecretStr(secret)))
        return {each.name: each for each in store_subject(settings).examine(Judge())}

    assert {each.status for each in verdicts(SECRET, host.url).values()} == {Status.OK}
    away = verdicts(SECRET, host.url, "http://127.0.0.1:1")["store.others"]
    assert away.status == Status.FAILED and "1 of 2" in away.found and "127.0.0.1:1" in away.found
    assert "secret" in verdicts("f" * 64, host.url)["store.others"].to_do
    assert verdicts("short", host.url)["store.secret"].status == Status.FAILED
