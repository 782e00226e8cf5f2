"""`chexnode train curate` as a user calls it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.errors import SourceError
from tests.training.sources import layouts
from training.curate_command import curate_command
from training.curation.manifest import read_manifest
from training.curation.shards import ShardDataset


def _invoke(*arguments: str | Path) -> str:
    # Wide enough for no reason to be broken over lines.
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        curate_command, [str(each) for each in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_two_sources_become_one_curated_set_with_a_table(tmp_path: Path) -> None:
    first, second = layouts.folder(tmp_path / "a"), layouts.kermany(tmp_path / "b")
    out = tmp_path / "out"
    said = _invoke("--source", f"folder:ward={first}", "--source", f"kermany={second}", "--out", out, "--shards")
    assert "ward" in said and "kermany" in said and "patient held out by the publisher" in said
    assert {image.source for image in read_manifest(out)} == {"ward", "kermany"}
    streamed = [sample.key for split in ("train", "val", "test") for sample in ShardDataset(out, split)]
    assert sorted(streamed) == sorted(image.key for image in read_manifest(out) if image.split)


def test_an_earlier_manifests_test_patients_stay_out(tmp_path: Path) -> None:
    folder = layouts.folder(tmp_path / "a", patients=20)
    _invoke("--source", f"folder={folder}", "--out", tmp_path / "frozen", "--test", "0.5")
    said = _invoke(
        "--source", f"folder={folder}", "--out", tmp_path / "out", "--test", "0", "--held-out", tmp_path / "frozen"
    )
    assert "patient of an evaluation" in said
    frozen = {image.key for image in read_manifest(tmp_path / "frozen") if image.split == "test"}
    assert frozen and not frozen & {image.key for image in read_manifest(tmp_path / "out") if image.split}


def test_the_list_of_kinds_marks_what_no_real_file_has_proved() -> None:
    said = _invoke("--list")
    assert "mimic-cxr-jpg" in said and "unverified" in said


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ([], "at least one --source"),
        (["--source", "pacs=http://127.0.0.1:1"], "--key-file"),
        (["--source", "kermany=nowhere", "--val", "0.6", "--test", "0.6"], "below 1"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_read(arguments: list[str], answer: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(curate_command, [*arguments, *(["--out", str(tmp_path)] if arguments else [])])
    assert result.exit_code != 0 and answer in f"{result.output} {result.exception}"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        _invoke("--source", "kermany=nowhere", "--out", tmp_path)
