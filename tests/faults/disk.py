"""Power loss without pulling the plug: what was not synced is taken back from the object store.

Inside a part every fsync is noted: of a file its inode and size, of a folder the entries that it had. After the death
of all parts the test takes back every entry that no synced folder names and every content that was not synced, as a
disk may do that was given no reason to write it.
"""

import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Journal:
    """Notes the syncs of this process in a file of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}.jsonl"

    def record(self) -> None:
        """From now on every os.fsync of this process is noted once it is done."""
        original = os.fsync

        def fsync(fd: Any) -> None:
            original(fd)
            self._note(fd)

        os.fsync = fsync

    def _note(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        line: dict[str, Any] = {"at": time.monotonic_ns(), "inode": about.st_ino, "size": about.st_size}
        if stat.S_ISDIR(about.st_mode):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            line |= {"folder": str(path), "entries": _entries(path)}
        with self._path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Lost:
    """What a power loss took."""

    entries: list[Path]
    contents: list[Path]


class Disk:
    """The object store's folder as a disk that may lose its power."""

    def __init__(self, root: Path, journal: Path) -> None:
        self._root = root
        self._journal = journal
        self._safe: dict[Path, int] = {}
        self.settle()

    def settle(self) -> None:
        """All that is there has had time to get onto the disk."""
        self._safe = {path: path.stat().st_ino for path in self._root.rglob("*")}
        for each in self._journal.glob("*.jsonl"):
            each.unlink()

    def lose_power(self) -> Lost:
        """Take back what was not synced since `settle`. No part may be running."""
        contents: dict[int, int] = {}
        entries: dict[str, dict[str, int]] = {}
        for line in self._lines():
            if "folder" in line:
                entries[line["folder"]] = line["entries"]
            else:
                contents[line["inode"]] = line["size"]
        lost = Lost([], [])
        # Folders before what is in them.
        for path in sorted(self._root.rglob("*")):
            try:
                about = path.lstat()
            except FileNotFoundError:
                continue  # gone with its folder
            if self._safe.get(path) == about.st_ino:
                continue
            if entries.get(str(path.parent), {}).get(path.name) != about.st_ino:
                lost.entries.append(path)
                _remove(path)
            elif path.is_file() and contents.get(about.st_ino) != about.st_size:
                lost.contents.append(path)
                os.truncate(path, 0)
        return lost

    def _lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for each in self._journal.glob("*.jsonl") for line in each.read_text().splitlines()]
        return sorted(lines, key=lambda line: line["at"])


def _entries(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as found:
        return {each.name: each.inode() for each in found}


def _remove(path: Path) -> None:
    if path.is_dir():
        for each in path.iterdir():
            _remove(each)
        path.rmdir()
    else:
        path.unlink()
