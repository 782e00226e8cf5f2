"""Which object store a process works with: the folder of this host, those of other hosts, or both.

Objects lie where they were received or made; nobody notes where: a name that is a digest is asked for in turn
(docs/decisions/022-where-objects-lie.md). Called by every command that reads or writes objects.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from node.storage.http_store import HttpObjectStore
from node.storage.object_store import FolderObjectStore, ObjectStore
from node.storage.store_cache import FileCache
from schemas.errors import ObjectMissingError, OutOfResourcesError, SettingsError, StoreUnavailableError
from schemas.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")

#: A shorter secret can be guessed.
_SECRET_CHARACTERS = 32


def own_store(settings: Settings) -> FolderObjectStore:
    """The folder of this host: what its receiver works with. Raises OutOfResourcesError."""
    return FolderObjectStore(settings.home / "objects")


def other_stores(settings: Settings) -> list[HttpObjectStore]:
    """The stores of other hosts. Raises SettingsError when there is no secret for them."""
    if not settings.store_urls:
        return []
    cache = FileCache(settings.home / "cache", settings.store.cache_bytes)
    secret = store_secret(settings)
    return [HttpObjectStore(url, settings.store, secret, cache) for url in settings.store_urls]


def open_store(settings: Settings) -> ObjectStore:
    """The store of everybody but the receiver.

    A host that serves its objects uses its own folder first. One that only names others has no folder that anybody
    else could read: what it makes goes to them.
    """
    others = other_stores(settings)
    if not others:
        return own_store(settings)
    return Stores([own_store(settings), *others] if settings.store.host else others)


def store_secret(settings: Settings) -> str:
    """The shared secret of the settings. Raises SettingsError when there is none, or one that can be guessed."""
    store = settings.store
    if store.secret_file is not None:
        try:
            secret = store.secret_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"store.secret_file: {store.secret_file} cannot be read as text.") from error
    else:
        secret = store.secret.get_secret_value() if store.secret else ""
    if len(secret) < _SECRET_CHARACTERS or not secret.isascii() or not secret.isprintable():
        raise SettingsError(
            f"The object store needs a secret of at least {_SECRET_CHARACTERS} ASCII characters that all hosts share: "
            "make one with `openssl rand -hex 32` and name its file in store.secret_file, or give it as "
            "CHEXNODE_STORE__SECRET."
        )
    return secret


class Stores:
    """Several stores as one: what one does not hold the next may; what is put goes to the first that takes it."""

    def __init__(self, stores: Sequence[ObjectStore]) -> None:
        self._stores = stores

    def put(self, content: bytes) -> str:
        """Keep `content`; returns its SHA-256 (hex). Durable when it returns. Raises OutOfResourcesError."""
        problem: OutOfResourcesError | StoreUnavailableError | None = None
        for store in self._stores:
            try:
                return store.put(content)
            except (OutOfResourcesError, StoreUnavailableError) as error:
                log.warning("object not stored there, trying the next store", error=error)
                # That there is no room says more than that another host is away.
                problem = error if problem is None or isinstance(error, OutOfResourcesError) else problem
        assert problem is not None
        raise problem

    def get(self, sha256: str) -> bytes:
        """The object's bytes, checked. Raises ObjectMissingError when no store has it whole."""
        return self._first(lambda store: store.get(sha256))

    @contextmanager
    def file(self, sha256: str) -> Iterator[Path]:
        """The object's file, or a copy. Raises ObjectMissingError when no store has it whole."""
        with ExitStack() as stack:
            yield self._first(lambda store: stack.enter_context(store.file(sha256)))

    def holds(self, sha256: str) -> bool:
        away: StoreUnavailableError | None = None
        for store in self._stores:
            try:
                if store.holds(sha256):
                    return True
            except StoreUnavailableError as error:
                away = error
        if away is not None:
            raise away
        return False

    def _first(self, ask: Callable[[ObjectStore], T]) -> T:
        """The first answer. While a store does not answer, nothing is known to be missing."""
        missing: list[str] = []
        away: StoreUnavailableError | None = None
        for store in self._stores:
            try:
                return ask(store)
            except ObjectMissingError as error:
                missing.append(error.detail)
            except StoreUnavailableError as error:
                away = error
        if away is not None:
            raise away
        raise ObjectMissingError(" ".join(missing))
