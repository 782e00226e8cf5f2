"""The object store keeps bytes under their digest, and says so when it cannot."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.storage.object_store import FolderObjectStore
from schemas.errors import ObjectMissingError, OutOfResourcesError


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=2000))
def test_what_was_put_is_got(tmp_path: Path, content: bytes) -> None:
    store = FolderObjectStore(tmp_path / "objects")
    sha256 = store.put(content)
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert store.get(sha256) == content
    assert sha256 in set(store)
    assert not list(store.incoming.iterdir())


def test_putting_twice_is_as_putting_once(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    assert store.put(b"a") == store.put(b"a")
    assert list(store) == [hashlib.sha256(b"a").hexdigest()]


def test_a_damaged_object_is_not_handed_out(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    sha256 = store.put(b"abc")
    store.path(sha256).write_bytes(b"abd")
    with pytest.raises(ObjectMissingError, match="backup"):
        store.get(sha256)
    with pytest.raises(ObjectMissingError):
        store.get("0" * 64)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_out_of_resources_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = FolderObjectStore(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfResourcesError) as refused:
        store.put(b"x" * 100)
    assert refused.value.dimse_status == 0xA700
    monkeypatch.undo()
    assert not list(store)
    assert not list(store.incoming.iterdir())
