"""Accounts, passwords and sessions: what the ledger keeps, and when a login ends."""

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.page import accounts, sessions
from node.page.context import Page
from node.page.visitor import Visitor
from schemas.account_tables import Account, LoginSession, Role
from schemas.errors import AccountError
from tests.page.browser import Browser
from tests.page.conftest import PASSWORD, ServedPage
from tests.support.processes import wait_for

_HOUR = 3600.0
_OTHER_PASSWORD = "a carina below the tube"


def test_no_password_is_seeded(page: ServedPage) -> None:
    with page.ledger.read() as session:
        assert accounts.every(session) == []


def test_passwords_are_kept_as_argon2id_alone(page: ServedPage) -> None:
    page.add_account("ada")
    with page.ledger.read() as session:
        (kept,) = session.scalars(select(Account.password_hash))
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PASSWORD not in kept


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        ("elevenchars", "12 characters"),
        ("", "12 characters"),
        ("aaaaaaaaaaaaaaaa", "different characters"),
        ("Grace-and-more", "name of its account"),
        ("x" * 2000, "1024 characters at most"),
    ],
)
def test_a_weak_password_is_refused_with_the_reason(password: str, complaint: str) -> None:
    with pytest.raises(AccountError, match=complaint):
        accounts.hash_password("grace", password)


@pytest.mark.parametrize("name", ["", "two words", "Ärztin", "a:b", "-x", "n" * 65, "<b>"])
def test_a_name_that_logs_and_headers_cannot_carry_is_refused(page: ServedPage, name: str) -> None:
    with pytest.raises(AccountError, match="A name is"):
        page.add_account(name)


def test_a_name_is_one_account_in_capitals_and_small(page: ServedPage) -> None:
    page.add_account("Ada")
    with pytest.raises(AccountError, match="already"):
        page.add_account("aDA")
    assert page.browser().log_in("  ADA ", PASSWORD).status_code == 303


def test_a_password_holds_on_every_keyboard(page: ServedPage) -> None:
    password = "Röntgenstraße gefällig"
    page.add_account("ada", password=unicodedata.normalize("NFC", password))
    assert page.browser().log_in("ada", unicodedata.normalize("NFD", password)).status_code == 303


def test_an_unknown_name_takes_as_much_work_as_a_known_one(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    page.add_account("ada")
    verified: list[str] = []
    hasher = accounts._HASHER

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(hasher, name)

        def verify(self, password_hash: str, password: str) -> bool:
            verified.append(password_hash.rsplit("$", 2)[0])
            return hasher.verify(password_hash, password)

    monkeypatch.setattr(accounts, "_HASHER", Counting())
    assert accounts.verify(page.ledger, "ada", "wrong wrong wrong") is None
    assert accounts.verify(page.ledger, "nobody", "wrong wrong wrong") is None
    assert accounts.verify(page.ledger, "ada", "wrong" * 1000) is None
    assert verified == ["$argon2id$v=19$m=65536,t=3,p=4"] * 3


def test_a_hash_of_older_parameters_is_renewed_at_the_next_login(page: ServedPage) -> None:
    page.add_account("ada")
    older = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    page.ledger.write(lambda session: session.execute(update(Account).values(password_hash=older)))
    assert page.browser().log_in("ada", PASSWORD).status_code == 303
    with page.ledger.read() as session:
        (kept,) = session.scalars(select(Account.password_hash))
    assert "m=65536,t=3,p=4" in kept
    assert page.browser().log_in("ada", PASSWORD).status_code == 303


def test_neither_cookie_nor_form_token_can_be_made_from_the_ledger(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    secret = browser.cookies[sessions.SESSION_COOKIE]
    with page.ledger.read() as session:
        (row,) = session.scalars(select(LoginSession))
    assert len(secret) >= 43  # 256 bits in base64
    assert row.token_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert browser.token not in (row.token_sha256, secret)
    for stolen in (row.token_sha256, browser.token):
        thief = page.browser()
        thief.cookies.set(sessions.SESSION_COOKIE, stolen)
        assert _is_logged_out(thief)


def test_logging_in_gives_a_cookie_that_nobody_knew_before(page: ServedPage) -> None:
    page.add_account("ada")
    browser = page.browser()
    browser.cookies.set(sessions.SESSION_COOKIE, "chosen-by-an-attacker")
    browser.get("/login")
    answer = browser.post(
        "/login",
        data={"name": "ada", "password": PASSWORD, "csrf_token": sessions.csrf_token(browser.cookies["chexnode_form"])},
    )
    assert answer.status_code == 303
    assert "chosen-by-an-attacker" not in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "samesite=lax" in answer.headers["set-cookie"].lower()
    assert "path=/" in answer.headers["set-cookie"].lower()


def test_a_login_ends_after_its_hours_even_when_it_is_used(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    _move_session(page, created=-11.9 * _HOUR)
    assert browser.get("/access").status_code == 403
    _move_session(page, created=-0.2 * _HOUR)
    assert _is_logged_out(browser)


def test_a_login_ends_when_nobody_clicks(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    _move_session(page, seen=-59 * 60)
    assert browser.get("/access").status_code == 403  # a click, which puts the end off
    _move_session(page, seen=-59 * 60)
    assert browser.get("/access").status_code == 403
    _move_session(page, seen=-61 * 60)
    assert _is_logged_out(browser)


def test_what_a_page_asks_by_itself_is_no_click(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    _move_session(page, seen=-59 * 60)
    before = _seen_at(page)
    browser.get("/access", headers={"X-Background": "1"})
    assert _seen_at(page) == before
    browser.get("/access")
    assert _seen_at(page) > before


def test_a_click_is_written_once_a_minute_at_most(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    before = _seen_at(page)
    browser.get("/access")
    assert _seen_at(page) == before


def test_logging_out_ends_the_session_on_the_server(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    secret = browser.cookies[sessions.SESSION_COOKIE]
    answer = browser.send_form("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "cache" in answer.headers["clear-site-data"]
    assert sessions.SESSION_COOKIE not in browser.cookies
    thief = page.browser()
    thief.cookies.set(sessions.SESSION_COOKIE, secret)
    assert _is_logged_out(thief)


@pytest.mark.parametrize(
    "change",
    [
        lambda session: accounts.change_password(session, "ada", accounts.hash_password("ada", _OTHER_PASSWORD)),
        lambda session: accounts.change_role(session, "ada", Role.ADMIN),
        lambda session: accounts.remove(session, "ada"),
    ],
    ids=["new password", "new role", "removed"],
)
def test_a_changed_account_is_logged_out_everywhere(page: ServedPage, change: Callable[[Session], None]) -> None:
    page.add_account("somebody-else")
    browsers = [page.logged_in("ada"), page.browser()]
    browsers[1].log_in("ada", PASSWORD)
    assert not any(_is_logged_out(browser) for browser in browsers)
    page.ledger.write(change)
    assert all(_is_logged_out(browser) for browser in browsers)


def test_a_new_password_replaces_the_old_one(page: ServedPage) -> None:
    page.add_account("ada")
    renewed = accounts.hash_password("ada", _OTHER_PASSWORD)
    page.ledger.write(lambda session: accounts.change_password(session, "ada", renewed))
    assert page.browser().log_in("ada", PASSWORD).status_code == 401
    assert page.browser().log_in("ada", _OTHER_PASSWORD).status_code == 303


def test_sessions_that_ended_are_cleaned_up(page: ServedPage) -> None:
    page.logged_in("ada")
    _move_session(page, created=-13 * _HOUR)
    page.browser().log_in("ada", PASSWORD)
    with page.ledger.read() as session:
        assert len(session.scalars(select(LoginSession)).all()) == 1


def test_a_stream_ends_with_the_login_that_opened_it(page: ServedPage) -> None:
    context: Page = page.app.state.page
    local = Visitor("", Role.ADMIN, "", "127.0.0.1")
    assert sessions.still_valid(context, local)
    browser = page.logged_in("ada")
    assert not sessions.still_valid(context, local)
    visitor = replace(local, name="ada", role=Role.READER, session=sessions.digest(browser.cookies["chexnode_session"]))
    script = replace(visitor, session="")
    assert sessions.still_valid(context, visitor)
    assert sessions.still_valid(context, script)
    browser.send_form("/logout")
    assert not sessions.still_valid(context, visitor)
    page.ledger.write(lambda session: accounts.remove(session, "ada"))
    assert not sessions.still_valid(context, script)


def test_removing_the_last_account_closes_the_page_to_others_again(page: ServedPage) -> None:
    page.logged_in("ada")
    page.ledger.write(lambda session: accounts.remove(session, "ada"))
    wait_for("the page has noticed", lambda: not page.app.state.gatekeeper.accounts_exist())
    assert page.browser("https://page.example", "10.0.0.7").get("/login").status_code == 403
    assert page.browser().get("/access").status_code == 200


def _is_logged_out(browser: Browser) -> bool:
    # Of a reader: 403 there, since the log is an administrator's; without a login the way to it.
    answer = browser.get("/access")
    assert answer.status_code in (303, 403)
    return bool(answer.status_code == 303)


def _move_session(page: ServedPage, created: float = 0.0, seen: float = 0.0) -> None:
    values = {"created_at": LoginSession.created_at + created, "seen_at": LoginSession.seen_at + seen}
    page.ledger.write(lambda session: session.execute(update(LoginSession).values(values)))


def _seen_at(page: ServedPage) -> float:
    with page.ledger.read() as session:
        return session.scalars(select(LoginSession.seen_at)).one()
