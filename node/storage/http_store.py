"""The object store of another host, over HTTP (node/storage/store_server.py): no disk is shared.

Every object is checked against its SHA-256 at both ends. Used through node/storage/stores.py.
"""

import hashlib
import ssl
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
from pydantic import TypeAdapter, ValidationError

from node.storage.store_cache import FileCache
from schemas.errors import ObjectMissingError, OutOfResourcesError, SettingsError, StoreUnavailableError
from schemas.settings import StoreSettings

_CHUNK_BYTES = 1 << 20
_CONNECT_SECONDS = 3.0
#: A host that does not answer is not asked again for this long, so that what other hosts hold need not wait for it.
_PAUSE_SECONDS = 2.0
_NAMES = TypeAdapter(list[str])


class HttpObjectStore:
    """The store at `url`. Threads may share it.

    Parameters
    ----------
    secret
        The one that the server has.
    cache
        Where copies for readers by path lie.
    """

    def __init__(self, url: str, settings: StoreSettings, secret: str, cache: FileCache) -> None:
        self.url = url
        self._cache = cache
        self._unreachable_until = 0.0
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=httpx.Timeout(settings.timeout_seconds, connect=_CONNECT_SECONDS),
            verify=_trust(settings.authorities),
            # Objects hold patients' data: what the environment names as a proxy is not meant for them.
            trust_env=False,
        )

    def put(self, content: bytes) -> str:
        """Keep `content` there; returns its SHA-256 (hex). Durable when it returns. Raises OutOfResourcesError."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self._request("PUT", f"objects/{sha256}", content=content):
            return sha256

    def get(self, sha256: str) -> bytes:
        """The object's bytes, checked. Raises ObjectMissingError when absent or damaged."""
        with self._request("GET", f"objects/{sha256}") as response:
            content = response.read()
        self._check(sha256, hashlib.sha256(content).hexdigest())
        return content

    def file(self, sha256: str) -> AbstractContextManager[Path]:
        """A copy of the object that stays while the block runs. Raises ObjectMissingError or OutOfResourcesError."""
        return self._cache.file(sha256, lambda path: self._fetch(sha256, path))

    def holds(self, sha256: str) -> bool:
        try:
            with self._request("HEAD", f"objects/{sha256}"):
                return True
        except ObjectMissingError:
            return False

    def fetch_bundle(self, digest: str, folder: Path) -> None:
        """Copy the files of a registered model bundle into `folder`, which is made. Raises ObjectMissingError.

        Whether they are what `digest` says is for the caller to check.
        """
        with self._request("GET", f"bundles/{digest}") as response:
            names = _names(self.url, response.read())
        for name in names:
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise StoreUnavailableError(f"{self.url} names a file outside of the bundle.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._request("GET", f"bundles/{digest}/{name}") as response, target.open("xb") as stream:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    stream.write(chunk)

    def _fetch(self, sha256: str, path: Path) -> None:
        digest = hashlib.sha256()
        with self._request("GET", f"objects/{sha256}") as response, path.open("xb") as stream:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                digest.update(chunk)
                stream.write(chunk)
        self._check(sha256, digest.hexdigest())

    def _check(self, sha256: str, found: str) -> None:
        if found != sha256:
            raise ObjectMissingError(f"{sha256} at {self.url} has other content: restore it from a backup.")

    @contextmanager
    def _request(self, method: str, path: str, content: bytes | None = None) -> Iterator[httpx.Response]:
        """The answer, when it is one of success, to be read within the block."""
        if time.monotonic() < self._unreachable_until:
            raise StoreUnavailableError(f"{self.url} did not answer a moment ago.")
        try:
            with self._client.stream(method, f"/{path}", content=content) as response:
                _raise_for(self.url, path, response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._unreachable_until = time.monotonic() + _PAUSE_SECONDS
            raise StoreUnavailableError(f"{self.url}: {error}. Is chexnode store running there?") from error
        except httpx.HTTPError as error:
            raise StoreUnavailableError(f"{self.url}: {type(error).__name__}: {error}.") from error


def _raise_for(url: str, path: str, response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    if status == HTTPStatus.NOT_FOUND:
        raise ObjectMissingError(f"{path} is not at {url}.")
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        raise OutOfResourcesError(f"{url} has no room: free space there.")
    if status == HTTPStatus.UNAUTHORIZED:
        raise StoreUnavailableError(f"{url} does not accept our secret: give both hosts the same (store.secret).")
    raise StoreUnavailableError(f"{url} answered HTTP {status} for {path}.")


def _names(url: str, content: bytes) -> list[str]:
    try:
        return _NAMES.validate_json(content)
    except ValidationError as error:
        raise StoreUnavailableError(f"{url} does not answer as a store of this version does.") from error


def _trust(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"store.authorities names {authorities}, which cannot be read as PEM.") from error
