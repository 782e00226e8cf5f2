"""Entries of the allow-list of senders."""

import pytest
from pydantic import ValidationError

from schemas.allowed_caller import parse_address, parse_caller
from schemas.settings import DicomSettings


@pytest.mark.parametrize(
    ("entry", "address", "included"),
    [
        ("ROOM", "203.0.113.9", True),
        ("ROOM@10.1.4.17", "10.1.4.17", True),
        ("ROOM@10.1.4.17", "10.1.4.18", False),
        ("ROOM@10.1.0.0/16", "10.1.255.1", True),
        ("ROOM@10.1.0.0/16", "::ffff:10.1.2.3", True),
        ("ROOM@fd00::/8", "fd00::7", True),
        ("ROOM@fd00::/8", "10.1.2.3", False),
    ],
)
def test_an_entry_lets_in_its_title_from_its_addresses(entry: str, address: str, included: bool) -> None:
    caller = parse_caller(entry)
    assert caller.includes("ROOM", parse_address(address)) is included
    assert not caller.includes("OTHER", parse_address(address))


@pytest.mark.parametrize("entry", ["", "@10.0.0.1", "ROOM@", "ROOM@10.0.0.300", "ROOM@10.1.2.3/16", "A" * 17, "A\\B"])
def test_an_entry_that_means_nothing_is_an_error_of_the_settings(entry: str) -> None:
    with pytest.raises(ValidationError, match=r"is no AE title|is no address and no network"):
        DicomSettings(calling_ae_titles=[entry])


def test_settings_with_which_nobody_would_listen_are_an_error() -> None:
    with pytest.raises(ValidationError, match=r"tls\.certificate"):
        DicomSettings(plain=False)
