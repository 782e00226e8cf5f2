"""What the doctor says of settings: which option is wrong, who gets in, who can read the passwords."""

from collections.abc import Callable
from pathlib import Path

import pytest

from node.doctor.settings_check import passwords, read_settings
from node.doctor.verdict import Status
from node.ledger.ledger import now, open_ledger
from schemas.account_tables import Account, Role
from schemas.errors import SettingsError
from schemas.settings import PageSettings, Settings
from tests.doctor.examining import examine, states


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the settings file in force."""
    path = tmp_path / "chexnode.toml"
    monkeypatch.setenv("CHEXNODE_SETTINGS", str(path))

    def write(text: str) -> Path:
        path.write_text(text)
        path.chmod(0o640)
        return path

    return write


def test_every_wrong_option_is_named_and_what_needs_no_settings_is_examined(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The self-test takes seconds, and other tests run it.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = written("[dicom]\nprot = 104\nport = 99999\n")
    verdicts = examine(read_settings())
    wrong = verdicts["settings.file"]
    assert wrong.status == Status.FAILED
    assert "dicom.prot: unknown option" in wrong.found and "dicom.port: " in wrong.found and str(path) in wrong.found
    assert "Correct what is named" in wrong.to_do
    for name in ("ports", "disk", "ledger", "broker", "parts", "work", "receiver", "destination"):
        assert verdicts[name].status == Status.SKIPPED
        assert "the settings cannot be used" in verdicts[name].found
    assert "the shipped one; which are active cannot be told" in verdicts["bundle.active"].found
    assert "bundle.self-test" in verdicts


def test_with_wrong_settings_no_choice_of_checks_looks_well(written: Callable[[str], Path]) -> None:
    written("[dicom\n")
    verdicts = examine(read_settings(), "ledger.answers")
    assert states(verdicts) == {"settings.file": Status.FAILED, "ledger": Status.SKIPPED}
    assert "is not TOML" in verdicts["settings.file"].found


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CHEXNODE_SETTINGS", "/nowhere/chexnode.toml", "/nowhere/chexnode.toml"),
        ("CHEXNODE_DESTINATIONS", "[{geheim", "destinations"),
    ],
)
def test_what_cannot_be_read_at_all_is_an_error_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    settings = read_settings()
    assert isinstance(settings, SettingsError)
    assert said in str(settings) and "geheim" not in str(settings)


def test_a_variable_that_is_no_option_is_named(bare: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHEXNODE_DICOM__PORT", "104")
    assert "CHEXNODE_DICOM__PORT" in examine(bare, "settings.environment")["settings.environment"].found
    monkeypatch.setenv("CHEXNODE_LEDGERURL", "postgresql://u:geheim@db/c")
    verdict = examine(bare, "settings.environment")["settings.environment"]
    assert verdict.status == Status.WARNING
    assert "CHEXNODE_LEDGERURL: there is no such option" in verdict.found and "geheim" not in verdict.found


@pytest.mark.parametrize(
    "text",
    [
        '[[destinations]]\nname = "a"\nurl = "http://pacs"\nkind = "orthanc"\nusername = "u"\npassword = "geheim"\n',
        'ledger_url = "postgresql+psycopg2://u:geheim@db/c"\n',
    ],
)
def test_a_password_that_everybody_can_read_is_a_warning(written: Callable[[str], Path], text: str) -> None:
    path = written(text)
    assert examine(read_settings(), "settings.secrets")["settings.secrets"].status == Status.OK
    path.chmod(0o644)
    verdict = examine(read_settings(), "settings.secrets")["settings.secrets"]
    assert verdict.status == Status.WARNING
    assert str(path) in verdict.found and f"chmod o-rwx {path}" in verdict.to_do
    assert "geheim" not in str(verdict)


def test_passwords_are_known_wherever_they_stand() -> None:
    settings = Settings.model_validate(
        {
            "ledger_url": "postgresql+psycopg2://u:one%40@db/c",
            "broker_url": "redis://:two@queue:6379/0",
            "destinations": [
                {"name": "a", "kind": "orthanc", "url": "http://u:three@pacs", "username": "u", "password": "four"},
                {"name": "b", "kind": "orthanc", "url": "http://[no-url"},
            ],
        }
    )
    assert set(passwords(settings)) == {"one@", "one%40", "two", "three", "four"}


def test_without_a_password_everybody_may_read_the_file(written: Callable[[str], Path]) -> None:
    written('ledger_url = "postgresql+psycopg2://u@db/c"\n').chmod(0o644)
    assert examine(read_settings(), "settings.secrets")["settings.secrets"].status == Status.OK


def test_nobody_who_may_send_and_nowhere_to_deliver_are_warnings(bare: Settings) -> None:
    bare.dicom.calling_ae_titles = []
    verdicts = examine(bare, "settings", "receiver")
    assert verdicts["settings.senders"].status == Status.WARNING
    assert "every sender is rejected" in verdicts["settings.senders"].found
    assert "dicom.calling_ae_titles" in verdicts["settings.senders"].to_do
    assert verdicts["settings.destinations"].status == Status.WARNING
    assert "[[destinations]]" in verdicts["settings.destinations"].to_do
    assert verdicts["receiver.echo"].status == Status.SKIPPED


def test_who_can_reach_the_page(prepared: Settings, tmp_path: Path) -> None:
    def page(**values: object) -> tuple[Status, str]:
        settings = prepared.model_copy(update={"page": PageSettings.model_validate({"port": 8080, **values})})
        verdict = examine(settings, "settings.page")["settings.page"]
        return verdict.status, f"{verdict.found} {verdict.to_do}"

    status, said = page()
    assert status == Status.OK and "this host only" in said
    status, said = page(host="0.0.0.0")
    assert status == Status.WARNING and "without any account" in said and "chexnode user add" in said

    account = {"name": "anna", "role": Role.READER, "password_hash": "-", "created_at": now()}
    ledger = open_ledger(prepared)
    ledger.write(lambda session: session.add(Account(**account)))
    ledger.close()
    status, said = page(host="0.0.0.0")
    assert status == Status.WARNING and "without HTTPS, so other hosts are refused" in said
    assert "page.tls_certificate" in said
    status, said = page(host="0.0.0.0", tls_certificate=tmp_path / "no.pem", tls_key=tmp_path / "no.key")
    assert status == Status.FAILED and "no.pem" in said
    for name in ("a.pem", "a.key"):
        (tmp_path / name).touch(0o600)
    status, said = page(host="0.0.0.0", tls_certificate=tmp_path / "a.pem", tls_key=tmp_path / "a.key")
    assert status == Status.OK and "by HTTPS, for 1 account" in said
