"""The commands that a user types, as processes."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from pydicom import Dataset

import schemas
from node.local_orthanc import find_orthanc
from node.supervisor import chexnode_part
from schemas.bundle import bundle_digest, bundle_folder
from schemas.result import StudyResult
from tests.support.bundles import write_tiny_bundle
from tests.support.dicom_tools import dciodvfy_errors
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port, free_ports


def chexnode(*arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 240) -> str:
    """Run a command that has to succeed; returns what it printed."""
    run = run_chexnode(*arguments, environment=environment, timeout=timeout)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def run_chexnode(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "schemas.command_line", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )


#: Every registered command.
COMMANDS = sorted(point.name for point in entry_points(group="chexnode.commands"))


def test_help_names_every_command() -> None:
    text = chexnode("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command}  +\w", text, re.MULTILINE), f"{command} without a line that says what it does"
    assert "NOT FOR CLINICAL USE" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage" in chexnode(command, "--help")


def test_analyze_writes_sr_seg_json_and_png_and_goes_on_after_bad_files(tmp_path: Path) -> None:
    good = write_phantom(tmp_path / "good.dcm", seed=41, tube="malpositioned")
    write_phantom(tmp_path / "lateral.dcm", seed=42, change=lambda dataset: setattr(dataset, "ViewPosition", "LL"))
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    (tmp_path / "empty.dcm").write_bytes(b"")
    out = tmp_path / "out"
    bad = [tmp_path / name for name in ("text.dcm", "lateral.dcm", "empty.dcm", "absent.dcm")]
    printed = chexnode("analyze", *bad, tmp_path / "good.dcm", "--out", out)
    assert "1 of 5 analysed" in printed
    uid = good.SOPInstanceUID
    assert {path.name for path in out.iterdir()} == {
        f"{uid}.sr.dcm",
        f"{uid}.seg.dcm",
        f"{uid}.json",
        f"{uid}.overlay.png",
    }
    for path in out.glob("*.dcm"):
        assert dciodvfy_errors(path) == []
    document = json.loads((out / f"{uid}.json").read_text())
    schema = json.loads((Path(schemas.__file__).parent / "result.schema.json").read_text())
    Draft202012Validator(schema).validate(document)
    assert document["notice"] == "Not for clinical use"
    with Image.open(out / f"{uid}.overlay.png") as picture:
        assert picture.size == (512, 512)


def test_analyze_takes_any_bundle_and_the_result_names_it_and_its_engine(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", "tiny", "7")
    sent = write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    chexnode("analyze", tmp_path / "a.dcm", "--out", tmp_path / "out", "--bundle", bundle)
    document = StudyResult.model_validate_json((tmp_path / "out" / f"{sent.SOPInstanceUID}.json").read_bytes())
    assert (document.bundle.name, document.bundle.version) == ("tiny", "7")
    assert document.bundle.digest == bundle_digest(bundle)
    assert (document.engine.name, document.engine.precision) == ("torch", "float32")


def test_analyze_refuses_a_bundle_whose_results_would_say_nothing(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", "tiny", "7")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "heads": []}))
    write_phantom(tmp_path / "a.dcm", rows=300, columns=300)
    run = run_chexnode("analyze", tmp_path / "a.dcm", "--out", tmp_path / "out", "--bundle", bundle)
    assert run.returncode == 1
    assert "would say nothing: import it with a head" in run.stderr and "Traceback" not in run.stderr


def test_analyze_fails_only_when_nothing_could_be_analysed(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    run = run_chexnode("analyze", tmp_path / "text.dcm", "--out", tmp_path / "out")
    assert run.returncode == 1
    assert "cannot be read as DICOM" in run.stdout


def test_send_to_nobody_says_so(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=1)
    run = run_chexnode("send", tmp_path / "a.dcm", "--to", f"CHEXNODE@127.0.0.1:{free_port()}")
    assert run.returncode == 2
    assert "refused" in run.stderr


def test_db_upgrade_and_status(tmp_path: Path) -> None:
    environment = {"CHEXNODE_HOME": str(tmp_path / "home")}
    assert run_chexnode("db", "status", environment=environment).returncode == 1
    chexnode("db", "upgrade", environment=environment)
    assert "instance" in chexnode("db", "status", environment=environment)


@pytest.mark.skipif(find_orthanc() is None, reason="Orthanc is not installed (make test installs it)")
def test_the_demonstration_ends_with_results_in_orthanc_and_works_again(tmp_path: Path) -> None:
    environment = free_ports()
    arguments = ("demo", "--once", "--home", tmp_path / "demo", "--orthanc-port", str(free_port()))
    for _ in range(2):
        printed = chexnode(*arguments, environment=environment)
        assert "6 objects read back" in printed
        assert "NOT FOR CLINICAL USE" in printed
        assert printed.count("1 SEG, 1 SC, 1 SR") == 2


def test_the_demonstration_without_orthanc_delivers_into_a_folder_and_says_so(tmp_path: Path) -> None:
    # An empty PATH for look-ups of Orthanc, which is found by name alone.
    environment = {**free_ports(), "CHEXNODE_ORTHANC": str(tmp_path / "absent")}
    home = tmp_path / "demo"
    printed = chexnode("demo", "--once", "--home", home, environment=environment)
    assert "No Orthanc here" in printed
    assert len(list((home / "results").rglob("*.dcm"))) == 6


def test_a_port_in_use_is_named_with_what_to_set(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = run_chexnode(
            "up", environment={**free_ports(), "CHEXNODE_DICOM__PORT": port, "CHEXNODE_HOME": str(tmp_path / "home")}
        )
    assert run.returncode == 1
    assert port in run.stderr and "CHEXNODE_DICOM__PORT" in run.stderr


def test_send_to_a_host_that_is_not_known_says_so(tmp_path: Path) -> None:
    write_phantom(tmp_path / "a.dcm", seed=1)
    run = run_chexnode("send", tmp_path / "a.dcm", "--to", "CHEXNODE@nowhere.invalid:104")
    assert run.returncode == 2
    assert "nowhere.invalid is not known" in run.stderr and "Traceback" not in run.stderr


def test_a_folder_is_searched_for_dicom_and_the_rest_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no DICOM")
    run = run_chexnode("analyze", tmp_path / "folder", "--out", tmp_path / "out")
    assert run.returncode == 1
    assert "1 files that are not DICOM were skipped" in run.stderr
    assert "There is no DICOM file" in run.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CHEXNODE_LEDGER_URL": "postgresql+psycopg2://u:geheim@127.0.0.1:1/c"}, "The ledger does not answer"),
        ({"CHEXNODE_LEDGER_URL": "bogus"}, "CHEXNODE_LEDGER_URL: Value error, no database URL"),
        ({"CHEXNODE_DICOM__AE_TITEL": "X"}, "CHEXNODE_DICOM__AE_TITEL: unknown option"),
        ({"CHEXNODE_SETTINGS": "/nowhere/[/a].toml"}, "/nowhere/[/a].toml"),
    ],
)
def test_an_operating_error_is_one_line_and_no_traceback(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    run = run_chexnode("db", "upgrade", environment={"CHEXNODE_HOME": str(tmp_path / "home"), **environment})
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr and "geheim" not in run.stderr


def test_a_picture_of_nothing_is_not_analysed(tmp_path: Path) -> None:
    def black(dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    write_phantom(tmp_path / "black.dcm", seed=1, change=black)
    run = run_chexnode("analyze", tmp_path / "black.dcm", "--out", tmp_path / "out")
    assert run.returncode == 1
    assert "Every pixel has the same value" in run.stdout


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "node.py").write_text("raise SystemExit('imported from the current folder')")
    out = tmp_path / "phantoms"
    command = chexnode_part("phantom", "phantom", "--out", str(out), "--size", "128").command
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_verify_tells_a_changed_bundle_by_its_digest(tmp_path: Path) -> None:
    digest = bundle_digest(bundle_folder(None))
    assert "self-test passed" in chexnode("bundle", "verify", "--digest", digest[:12])
    run = run_chexnode("bundle", "verify", "--digest", "0" * 12)
    assert run.returncode == 1 and "it was changed" in run.stderr
