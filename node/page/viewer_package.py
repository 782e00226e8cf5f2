"""The OHIF viewer as a folder: fetched from its npm package, checked, and made to lie under /viewer/.

Called by `chexnode viewer`. The package @ohif/app ships a finished build, which expects to lie at the root of a server;
what is changed so that it may lie under `PREFIX` is in `_relocate`, and nothing else is changed.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from schemas.errors import ChexnodeError

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
#: Subresource integrity of the package's archive, as the registry states it and as it was reviewed.
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
#: Path of the viewer on the page's server.
PREFIX = "/viewer/"

#: A run of npm that takes longer has hung.
_NPM_SECONDS = 600
#: Not unpacked: 136 MB of onnxruntime for segmentation in the browser, the viewer for microscopy, and what belongs to
#: other ways of serving (service worker, OpenID, sample configurations).
_LEFT_OUT = {
    "_headers",
    "_redirects",
    "app-config.js",
    "customizations",
    "dicom-microscopy-viewer",
    "google.js",
    "oidc-client.min.js",
    "ort",
    "serve.json",
    "silent-refresh.html",
    "sw.js",
}
#: Worth compressing for the way to the browser.
_COMPRESSED = {".css", ".js", ".json", ".svg", ".wasm"}


class ViewerInstallError(ChexnodeError):
    """The viewer could not be installed."""


def default_folder() -> Path:
    """Where the viewer is installed: beside the environment that runs this, one folder per version."""
    return Path(sys.prefix) / "share" / "chexnode" / f"ohif-{VERSION}"


def is_viewer(folder: Path) -> bool:
    """Whether the folder holds an OHIF build for `PREFIX`."""
    index = folder / "index.html"
    return index.is_file() and f'PUBLIC_URL="{PREFIX}"' in index.read_text(errors="replace")


@contextmanager
def fetch() -> Iterator[Path]:
    """The package's archive, within the block. Raises ViewerInstallError."""
    npm = shutil.which("npm")
    if npm is None:
        raise ViewerInstallError("It comes as an npm package and npm is not installed here (Debian: apt install npm).")
    with tempfile.TemporaryDirectory(prefix="chexnode-viewer-") as name:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", name, "--json", "--loglevel=error"]
        command += ["--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=60000", "--update-notifier=false"]
        try:
            # In a folder of its own: npm reads the configuration of the project that it stands in.
            run = subprocess.run(
                command, cwd=name, capture_output=True, text=True, errors="replace", timeout=_NPM_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ViewerInstallError(f"npm did not end within {_NPM_SECONDS} seconds.") from error
        archives = list(Path(name).glob("*.tgz"))
        if run.returncode or len(archives) != 1:
            raise ViewerInstallError(f"npm pack {PACKAGE}@{VERSION} failed: {_npm_reason(run)}")
        yield archives[0]


def _npm_reason(run: subprocess.CompletedProcess[str]) -> str:
    """What npm says of its failure, one line."""
    try:
        error = json.loads(run.stdout)["error"]
        return " ".join(f"{error.get('code', '')} {error.get('summary', '')}".split())
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        return " ".join(lines[:3]) or f"status {run.returncode}"


def check(archive: Path, integrity: str = INTEGRITY) -> None:
    """Raise ViewerInstallError unless the archive is, bit by bit, the one that was reviewed."""
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != integrity:
        raise ViewerInstallError(f"What npm fetched is not {PACKAGE} {VERSION}: it is {found}, not {integrity}.")


def unpack(archive: Path, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Unpack and relocate the build into `folder`, which is there complete or not at all afterwards.

    A folder without a usable viewer is replaced; `progress` is called with files done and files in all.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        made = Path(name) / "viewer"
        made.mkdir()
        with tarfile.open(archive) as tar:
            members = [(member, target) for member in tar if (target := _target(member)) is not None]
            for number, (member, target) in enumerate(members):
                progress(number, len(members))
                source = tar.extractfile(member)
                if source is None:
                    raise ViewerInstallError(f"{member.name} is no file in {archive.name}.")
                path = made.joinpath(*target.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_relocate(str(target), source.read()))
                _compress(path)
        progress(len(members), len(members))
        if not is_viewer(made):
            raise ViewerInstallError(f"The build in {archive.name} is not laid out as that of {VERSION}.")
        # Out of the way, so that the rename finds nothing there; gone with the temporary folder.
        if folder.exists():
            folder.rename(Path(name) / "replaced")
        made.rename(folder)


def _target(member: tarfile.TarInfo) -> PurePosixPath | None:
    """Where a member goes below the viewer's folder; None for what is left out. Raises ViewerInstallError.

    Only plain files under package/dist and the licence are taken, so that nothing can be written elsewhere: links,
    devices and paths that climb have no place in a build. (Debian 12's Python has no tarfile.data_filter.)
    """
    path = PurePosixPath(member.name)
    if member.isdir():
        return None
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise ViewerInstallError(f"The package holds {member.name!r}, which is no plain file in its own folder.")
    if path == PurePosixPath("package/LICENSE"):
        return PurePosixPath("LICENSE")
    if path.parts[:2] != ("package", "dist") or len(path.parts) < 3 or path.parts[2] in _LEFT_OUT:
        return None
    return PurePosixPath(*path.parts[2:])


def _relocate(name: str, content: bytes) -> bytes:
    """The file as it has to be under `PREFIX`: the root that the build was made for is "/"."""
    prefix = PREFIX.encode()
    if name == "index.html":
        content = re.sub(rb'(href|src|content)="/(?!/)', rb'\1="' + prefix, content)
        return content.replace(b'PUBLIC_URL="/"', b'PUBLIC_URL="' + prefix + b'"')
    if name == "manifest.json":
        return content.replace(b'"src": "/', b'"src": "' + prefix)
    if name.endswith(".css"):
        return re.sub(rb"url\(/(?!/)", rb"url(" + prefix, content)
    if name.endswith(".js"):
        # Where chunks, workers and WebAssembly are looked for, in the viewer and in each of its workers.
        return content.replace(b'__webpack_require__.p = "/"', b'__webpack_require__.p = "' + prefix + b'"')
    return content


def _compress(path: Path) -> None:
    """Put a gzip beside a file that is worth it: 17 MB of script are 3 MB then."""
    if path.suffix in _COMPRESSED and path.stat().st_size > 1024:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), compresslevel=6, mtime=0))


def size(folder: Path) -> int:
    """Bytes that the folder holds."""
    return sum(os.lstat(path).st_size for path in folder.rglob("*"))
