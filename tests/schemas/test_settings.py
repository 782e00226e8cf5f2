"""Settings come from one file and the environment, and say what is wrong with them."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.settings import OrthancDestination, load_settings


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "chexnode.toml"
    path.write_text("")
    monkeypatch.setenv("CHEXNODE_SETTINGS", str(path))
    return path


def test_nobody_may_associate_until_the_settings_name_somebody(settings_file: Path) -> None:
    settings = load_settings()
    assert settings.dicom.calling_ae_titles == []
    assert settings.dicom.host == "127.0.0.1"


def test_the_environment_wins_over_the_file(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file.write_text('[dicom]\nport = 104\nae_title = "FILE"\n')
    monkeypatch.setenv("CHEXNODE_DICOM__PORT", "11113")
    settings = load_settings()
    assert (settings.dicom.port, settings.dicom.ae_title) == (11113, "FILE")


def test_destinations_are_read_and_a_password_is_not_shown(settings_file: Path) -> None:
    settings_file.write_text(
        '[[destinations]]\nname = "pacs"\nkind = "orthanc"\nurl = "http://pacs"\nusername = "a"\npassword = "geheim"\n'
    )
    (destination,) = load_settings().destinations
    assert isinstance(destination, OrthancDestination)
    assert "geheim" not in repr(destination)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dicom]\nprot = 104\n", "dicom.prot"),
        ('[dicom]\nae_title = "MUCH TOO LONG A TITLE"\n', "dicom.ae_title"),
        ("[dicom\n", "not TOML"),
        ('[[destinations]]\nname = "a"\nkind = "folder"\npath = "x"\n' * 2, "share a name"),
        ('[[destinations]]\nname = "a"\nkind = "fax"\n', "destinations"),
    ],
)
def test_a_mistake_is_named_by_its_option(settings_file: Path, text: str, said: str) -> None:
    settings_file.write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_a_missing_file_that_was_named_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHEXNODE_SETTINGS", str(tmp_path / "absent.toml"))
    with pytest.raises(SettingsError, match="absent"):
        load_settings()


def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chexnode.toml"
    monkeypatch.setenv("CHEXNODE_SETTINGS", str(path))
    path.write_bytes(b'home = "\xff"')
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings()
    path.write_text("")
    monkeypatch.setenv("CHEXNODE_DICOM", '{"port": secret')
    with pytest.raises(SettingsError, match="environment") as caught:
        load_settings()
    assert "secret" not in str(caught.value)
