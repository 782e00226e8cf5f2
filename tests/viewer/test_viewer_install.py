"""`chexnode viewer`: what is taken of the package, what is refused, what an interrupted or repeated run leaves."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from node.page import viewer_package
from node.page.viewer_package import ViewerInstallError, check, is_viewer, unpack

INDEX = (
    b'<link href="/app.bundle.css"><script>window.PUBLIC_URL="/"</script>'
    b'<script src="/app.bundle.0f6159c501addfe9.js"></script><a href="//elsewhere">'
)
FILES = {
    "package/package.json": b"{}",
    "package/LICENSE": b"MIT",
    "package/dist/index.html": INDEX,
    "package/dist/app.bundle.0f6159c501addfe9.js": b'__webpack_require__.p = "/";' + b" " * 2000,
    "package/dist/worker.bundle.0f6159c501addfe8.js": b'x; __webpack_require__.p = "/"',
    "package/dist/app.bundle.css": b"@font-face{src:url(/a.woff2)} a{b:url(data:x)} c{d:url(//elsewhere)}",
    "package/dist/manifest.json": b'{"icons": [{"src": "/assets/a.png"}]}',
    "package/dist/assets/a.png": b"png",
    "package/dist/ort/ort.wasm": b"big",
    "package/dist/sw.js": b"service worker",
    "package/dist/app-config.js": b"window.config = {}",
}


def package(path: Path, files: dict[str, bytes], change: Callable[[tarfile.TarFile], None] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if change:
            change(tar)
    return path


def test_the_build_is_unpacked_for_its_place_without_what_is_not_needed(tmp_path: Path) -> None:
    folder = tmp_path / "share" / "ohif"
    seen: list[tuple[int, int]] = []
    unpack(package(tmp_path / "a.tgz", FILES), folder, lambda done, total: seen.append((done, total)))
    assert is_viewer(folder)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "LICENSE",
        "index.html",
        "app.bundle.css",
        "app.bundle.0f6159c501addfe9.js",
        "app.bundle.0f6159c501addfe9.js.gz",
        "worker.bundle.0f6159c501addfe8.js",
        "manifest.json",
        "assets/a.png",
    }
    index = (folder / "index.html").read_text()
    assert 'href="/viewer/app.bundle.css"' in index and 'src="/viewer/app.bundle' in index and '"//elsewhere"' in index
    for script in folder.glob("*.js"):
        assert '__webpack_require__.p = "/viewer/"' in script.read_text()
    assert "url(/viewer/a.woff2)" in (folder / "app.bundle.css").read_text()
    assert "url(//elsewhere)" in (folder / "app.bundle.css").read_text()
    assert json.loads((folder / "manifest.json").read_text())["icons"][0]["src"] == "/viewer/assets/a.png"
    assert seen[-1][0] == seen[-1][1] > 0
    assert [path.name for path in folder.parent.iterdir()] == ["ohif"]


def _link(tar: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("package/dist/link.js")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.addfile(member)


def _device(tar: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("package/dist/device.js")
    member.type = tarfile.CHRTYPE
    tar.addfile(member)


def _climbing(name: str) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))

    return add


@pytest.mark.parametrize(
    "change",
    [_link, _device, _climbing("package/dist/../../../evil.js"), _climbing("/evil.js"), _climbing("a\\..\\evil.js")],
)
def test_a_package_that_would_write_elsewhere_leaves_nothing(
    tmp_path: Path, change: Callable[[tarfile.TarFile], None]
) -> None:
    folder = tmp_path / "share" / "ohif"
    with pytest.raises(ViewerInstallError, match="no plain file"):
        unpack(package(tmp_path / "a.tgz", FILES, change), folder)
    assert not folder.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tgz", "share"]


def test_an_unpacking_that_fails_halfway_keeps_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "ohif"
    unpack(package(tmp_path / "a.tgz", FILES), folder)

    def fail(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "a.tgz", folder, fail)
    assert is_viewer(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz", "ohif"]


def test_a_half_made_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "ohif"
    folder.mkdir()
    (folder / "rest.js").write_text("")
    unpack(package(tmp_path / "a.tgz", FILES), folder)
    assert is_viewer(folder) and not (folder / "rest.js").exists()


def test_a_build_that_is_laid_out_otherwise_is_not_installed(tmp_path: Path) -> None:
    other = {**FILES, "package/dist/index.html": b"<html>"}
    with pytest.raises(ViewerInstallError, match="laid out"):
        unpack(package(tmp_path / "a.tgz", other), tmp_path / "ohif")
    assert not (tmp_path / "ohif").exists()


def test_a_package_of_other_content_is_refused(tmp_path: Path) -> None:
    archive = package(tmp_path / "a.tgz", FILES)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    check(archive, f"sha512-{digest}")
    with pytest.raises(ViewerInstallError, match="is not @ohif/app"):
        check(archive)


# --- The command, with an npm of the test's own ----------------------------------------------------------------------


def chexnode(tmp_path: Path, *arguments: str, npm: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command where `npm` (a shell script) is the only npm, or where there is none."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    if npm is not None:
        (programs / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (programs / "npm").chmod(0o755)
    path = f"{programs}:/bin" if npm is not None else str(programs)
    command = [sys.executable, "-m", "schemas.command_line", "viewer", *arguments]
    environment = {**os.environ, "PATH": path, "COLUMNS": "300"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_without_npm_it_says_what_is_missing(tmp_path: Path) -> None:
    run = chexnode(tmp_path, "install", "--to", str(tmp_path / "ohif"), npm=None)
    assert run.returncode == 1
    assert "npm is not installed" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "ohif").exists()


def test_a_registry_that_does_not_answer_is_named_in_one_line(tmp_path: Path) -> None:
    error = '{"error": {"code": "ECONNREFUSED", "summary": "request to the registry failed"}}'
    run = chexnode(tmp_path, "install", "--to", str(tmp_path / "ohif"), npm=f"echo '{error}'; exit 1")
    assert run.returncode == 1
    assert "ECONNREFUSED request to the registry failed" in run.stderr and "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_what_npm_fetched_is_checked_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = package(tmp_path / "a.tgz", FILES)
    npm = f'while [ "$1" != --pack-destination ]; do shift; done; cp {archive} "$2/ohif-app.tgz"'
    run = chexnode(tmp_path, "install", "--to", str(tmp_path / "ohif"), npm=npm)
    assert run.returncode == 1 and "is not @ohif/app" in run.stderr
    assert not (tmp_path / "ohif").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    run = chexnode(tmp_path, "install", "--to", str(tmp_path / "mine"), npm="exit 1")
    assert run.returncode == 1 and "holds no viewer" in run.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_second_install_does_nothing_and_needs_no_npm(tmp_path: Path) -> None:
    folder = tmp_path / "ohif"
    unpack(package(tmp_path / "a.tgz", FILES), folder)
    before = folder.stat().st_mtime_ns
    run = chexnode(tmp_path, "install", "--to", str(folder), npm=None)
    assert run.returncode == 0 and "is there" in run.stdout
    assert folder.stat().st_mtime_ns == before


def test_status_says_whether_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ohif"
    monkeypatch.setenv("CHEXNODE_PAGE__VIEWER", str(folder))
    missing = chexnode(tmp_path, "status", npm=None)
    assert missing.returncode == 1 and "is not there" in missing.stdout and "viewer install" in missing.stdout
    unpack(package(tmp_path / "a.tgz", FILES), folder)
    assert chexnode(tmp_path, "status", npm=None).returncode == 0
    (folder / "index.html").write_bytes(INDEX)
    other = chexnode(tmp_path, "status", npm=None)
    assert other.returncode == 1 and "/viewer/" in other.stdout


def test_the_real_package_has_what_is_relocated(viewer: Path) -> None:
    """The pinned build, as npm gave it: each place where the root is written was found."""
    scripts = [path for path in viewer.glob("*.js") if "__webpack_require__.p = " in path.read_text(errors="replace")]
    assert len(scripts) == 8
    assert all('__webpack_require__.p = "/viewer/"' in path.read_text(errors="replace") for path in scripts)
    assert '="/assets' not in (viewer / "index.html").read_text()
    assert not any("url(/a" in path.read_text() for path in viewer.glob("*.css"))
    assert not (viewer / "ort").exists()
    assert viewer_package.size(viewer) < 80e6
