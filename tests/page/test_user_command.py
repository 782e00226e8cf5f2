"""`chexnode user`: accounts from the command line."""

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from node.ledger.database import downgrade
from node.ledger.ledger import Ledger
from node.page import accounts
from node.page.user_command import user_group
from schemas.account_tables import AccessEntry, Role
from schemas.errors import AccountError
from tests.page.conftest import PASSWORD, ServedPage


@pytest.fixture(autouse=True)
def _settings(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(page.settings.home))
    monkeypatch.setenv("CHEXNODE_LEDGER_URL", page.settings.ledger_url)


def test_an_account_made_on_the_command_line_may_log_in(page: ServedPage) -> None:
    made = _run("add", "Ada", "--role", "admin", given=f"{PASSWORD}\n{PASSWORD}\n")
    assert made.exit_code == 0
    assert "ada may log in as admin" in made.output
    assert PASSWORD not in made.output
    browser = page.browser()
    assert browser.log_in("ada", PASSWORD).status_code == 303
    assert browser.get("/access").status_code == 200
    assert "by " in _log(page)[0].detail


def test_a_script_gives_the_password_on_standard_input(page: ServedPage) -> None:
    for name, given in (("ris", f"{PASSWORD}\n"), ("vna", PASSWORD), ("pacs", f"{PASSWORD}\r\n")):
        assert _run("add", name, "--role", "reader", "--password-stdin", given=given).exit_code == 0
        assert accounts.verify(page.ledger, name, PASSWORD) is not None


@pytest.mark.parametrize(
    ("arguments", "given", "complaint"),
    [
        (("add", "ada", "--role", "reader", "--password-stdin"), "short", "12 characters at least"),
        (("add", "two words", "--role", "reader"), "", "A name is"),
        (("password", "nobody"), "", "no account 'nobody'"),
        (("remove", "nobody"), "", "no account 'nobody'"),
        (("role", "nobody", "admin"), "", "no account 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    page: ServedPage, arguments: tuple[str, ...], given: str, complaint: str
) -> None:
    result = _run(*arguments, given=given)
    assert isinstance(result.exception, AccountError)
    assert complaint in str(result.exception)
    assert _log(page) == []


def test_two_passwords_that_differ_make_no_account(page: ServedPage) -> None:
    result = _run("add", "ada", "--role", "reader", given=f"{PASSWORD}\nsomething else\n")
    assert result.exit_code == 1
    with page.ledger.read() as session:
        assert accounts.every(session) == []


@pytest.mark.parametrize("arguments", [("add", "ada"), ("add", "ada", "--role", "root"), ("role", "ada", "root")])
def test_a_role_is_chosen_and_never_assumed(arguments: tuple[str, ...]) -> None:
    assert _run(*arguments, given=f"{PASSWORD}\n{PASSWORD}\n").exit_code == 2


def test_an_account_is_listed_changed_and_removed(page: ServedPage) -> None:
    assert "no account" in _run("list").output
    page.add_account("ada")
    page.browser().log_in("ada", PASSWORD)
    assert _run("role", "ada", "operator").exit_code == 0
    assert _run("password", "ada", "--password-stdin", given="another password").exit_code == 0
    listed = _run("list").output
    assert "ada" in listed
    assert "operator" in listed
    account = accounts.verify(page.ledger, "ada", "another password")
    assert account is not None
    assert account.role == Role.OPERATOR
    assert "no account left" in _run("remove", "ada").output
    assert [entry.detail.split(",")[0] for entry in _log(page)] == ["is operator now", "password changed", "removed"]


def test_the_first_account_needs_no_other_command_before(page: ServedPage) -> None:
    downgrade(page.ledger, "base")
    assert _run("add", "ada", "--role", "admin", "--password-stdin", given=PASSWORD).exit_code == 0
    assert accounts.verify(page.ledger, "ada", PASSWORD) is not None


def test_a_ledger_of_another_revision_is_left_alone(page: ServedPage) -> None:
    downgrade(page.ledger, "0001")
    result = _run("add", "ada", "--role", "admin", "--password-stdin", given=PASSWORD)
    assert "chexnode db upgrade" in str(result.exception)


def _run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(user_group, list(arguments), input=given)


def _log(page: ServedPage) -> list[AccessEntry]:
    return _entries(page.ledger)


def _entries(ledger: Ledger) -> list[AccessEntry]:
    with ledger.read() as session:
        found = select(AccessEntry).where(AccessEntry.action == "account").order_by(AccessEntry.id)
        return list(session.scalars(found))
