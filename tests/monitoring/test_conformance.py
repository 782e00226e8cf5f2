"""The conformance statement says what this version does."""

from pathlib import Path

from click.testing import CliRunner

from node.network.conformance import conformance_command, conformance_statement, private_codes
from schemas.codes import TubePosition

_COMMITTED = Path(__file__).resolve().parent.parent.parent / "docs" / "conformance.md"


def test_the_committed_statement_is_what_this_version_writes(tmp_path: Path) -> None:
    result = CliRunner().invoke(conformance_command, ["--out", str(tmp_path / "statement.md")])
    assert result.exit_code == 0
    written = (tmp_path / "statement.md").read_text(encoding="utf-8")
    to_do = "write it anew: chexnode conformance --out docs/conformance.md"
    assert written == _COMMITTED.read_text(encoding="utf-8"), to_do


def test_it_names_what_an_integrator_looks_for() -> None:
    statement = conformance_statement()
    for each in (
        "1.2.840.10008.5.1.4.1.1.1.1 |",
        "1.2.840.10008.5.1.4.1.1.88.34 |",
        "1.2.840.10008.1.20.1",
        "1.2.840.10008.1.2.4.70 |",
        "| 0xA700 |",
        "| 0xC000 |",
        "99CHEXNODE",
        "ISO\\_IR 192",
        "`dicom.calling_ae_titles`",
    ):
        assert each in statement


def test_every_private_code_is_declared_with_its_meaning() -> None:
    declared = {each.value: each.meaning for each in private_codes()}
    assert {each.code.value for each in TubePosition} <= set(declared)
    assert all(declared.values())
