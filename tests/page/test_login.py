"""The login form and HTTP Basic: who gets in, where they are led, and what guessing comes to."""

import base64
import re
from typing import Any

import pytest
from sqlalchemy import select, update

from node.ledger.ledger import now
from node.page import access_log, accounts, attempts
from node.page.app import create_page
from schemas.account_tables import AccessEntry, Role
from tests.page.browser import Browser
from tests.page.conftest import PASSWORD, ServedPage

_WRONG = "not the password"
_QUARTER = 15 * 60
_SECURE = "https://page.example"


def test_the_page_that_was_asked_for_comes_after_the_login(page: ServedPage) -> None:
    page.add_account("ada", Role.ADMIN)
    browser = page.browser()
    asked = browser.get("/access?account=m%C3%BCller%26co&study=1.2")
    assert asked.status_code == 303
    form = browser.get(asked.headers["location"])
    following = re.search('name="next" value="([^"]*)"', form.text)
    assert following
    answer = browser.log_in("ada", PASSWORD, following[1].replace("&amp;", "&"))
    assert answer.status_code == 303
    shown = browser.get(answer.headers["location"])
    assert shown.status_code == 200
    assert shown.url.params["account"] == "müller&co"


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
     "javascript:alert(1)", "/\n/evil.example", " //evil.example", "evil.example", "/login?next=//evil.example", ""],
)  # fmt: skip
def test_a_login_never_leads_to_another_site(page: ServedPage, address: str) -> None:
    page.add_account("ada")
    browser = page.browser()
    assert browser.log_in("ada", PASSWORD, address).headers["location"] == "/"
    # Nor does the login page of who is logged in already.
    assert browser.get("/login", params={"next": address}).headers["location"] == "/"


def test_a_wrong_name_and_a_wrong_password_look_the_same(page: ServedPage) -> None:
    page.add_account("ada")
    answers = [page.browser().log_in("ada", _WRONG), page.browser().log_in("bob", _WRONG)]
    assert [answer.status_code for answer in answers] == [401, 401]
    bodies = [re.sub("[0-9a-f]{64}", "token", answer.text).replace("bob", "ada") for answer in answers]
    assert bodies[0] == bodies[1]
    assert _WRONG not in bodies[0]
    assert "www-authenticate" not in answers[0].headers


def test_the_login_form_of_another_site_logs_nobody_in(page: ServedPage) -> None:
    page.add_account("mallory")
    fields = {"name": "mallory", "password": PASSWORD}
    victim = page.browser()
    assert victim.post("/login", data=fields).status_code == 403
    victim.get("/login")
    assert victim.post("/login", data=fields | {"csrf_token": "f" * 64}).status_code == 403
    mallory = page.browser()
    mallory.get("/login")
    assert victim.post("/login", data=fields | {"csrf_token": mallory.token}).status_code == 403
    own = fields | {"csrf_token": victim.token}
    assert victim.post("/login", data=own, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert victim.post("/login", data=own).status_code == 303


def test_fifty_failed_logins_of_any_names_close_an_address_and_five_do_not(page: ServedPage) -> None:
    page.add_account("ada")
    guesser = page.browser(_SECURE, "10.0.0.66")
    assert [_guess(guesser, f"user{number}") for number in range(5)] == [401] * 5
    # One script with an old password does not close the worklist to the whole reading room.
    assert guesser.log_in("ada", PASSWORD).status_code == 303
    assert [_guess(guesser, f"user{number}") for number in range(45)] == [401] * 45
    assert guesser.log_in("ada", PASSWORD).status_code == 429


def test_after_five_failed_logins_a_name_has_to_wait_at_its_address(page: ServedPage) -> None:
    page.add_account("ada")
    guesser = page.browser(_SECURE, "10.0.0.66")
    assert [_guess(guesser, "ada") for _ in range(5)] == [401] * 5
    refused = guesser.log_in("ada", PASSWORD)
    assert refused.status_code == 429
    assert _QUARTER - 60 <= int(refused.headers["retry-after"]) <= _QUARTER
    assert "Try again in 15 min" in refused.text
    # Others go on, as the same account, too.
    assert page.browser(_SECURE, "10.0.0.7").log_in("ada", PASSWORD).status_code == 303
    # And so does this address, later.
    _age_log(page, _QUARTER - 60)
    assert guesser.log_in("ada", PASSWORD).status_code == 429
    _age_log(page, 61)
    assert guesser.log_in("ada", PASSWORD).status_code == 303


def test_a_login_elsewhere_resets_no_count_and_waiting_prolongs_none(page: ServedPage) -> None:
    page.add_account("ada")
    guesser = page.browser(_SECURE, "10.0.0.66")
    for _ in range(4):
        _guess(guesser, "ada")
    assert page.browser(_SECURE, "10.0.0.7").log_in("ada", PASSWORD).status_code == 303
    assert guesser.log_in("ada", PASSWORD).status_code == 303
    assert _guess(guesser, "ada") == 401
    assert _guess(guesser, "ada") == 429
    assert len(_entries(page, "login_failed")) == 5


def test_the_count_holds_over_a_restart_and_in_another_process(page: ServedPage) -> None:
    page.add_account("ada")
    for _ in range(5):
        _guess(page.browser(_SECURE, "10.0.0.66"), "ada")
    another = create_page(page.settings, page.ledger, page.store)
    assert Browser(another, _SECURE, ("10.0.0.66", 1)).log_in("ada", PASSWORD).status_code == 429


def test_one_name_guessed_from_many_addresses_has_to_wait_but_not_where_its_owner_sits(page: ServedPage) -> None:
    page.add_account("ada")
    workstation = page.browser(_SECURE, "10.0.0.7")
    assert workstation.log_in("ada", PASSWORD).status_code == 303
    _fail(page, "ada", [f"10.0.{number}.66" for number in range(49)])
    assert page.browser(_SECURE, "10.0.0.8").log_in("ada", PASSWORD).status_code == 303
    _fail(page, "ada", ["10.1.0.1"])
    assert page.browser(_SECURE, "10.0.0.9").log_in("ada", PASSWORD).status_code == 429
    assert workstation.log_in("ada", PASSWORD).status_code == 303
    page.add_account("bob")
    assert page.browser(_SECURE, "10.0.0.9").log_in("bob", PASSWORD).status_code == 303


def test_an_ipv6_host_that_changes_its_address_is_counted_as_one(page: ServedPage) -> None:
    page.add_account("ada")
    for number in range(5):
        _guess(page.browser(_SECURE, f"2001:db8::{number}"), "ada")
    assert page.browser(_SECURE, "2001:db8::ffff").log_in("ada", PASSWORD).status_code == 429
    assert page.browser(_SECURE, "2001:db8:0:1::1").log_in("ada", PASSWORD).status_code == 303


def test_what_was_typed_as_a_name_cannot_forge_the_log(page: ServedPage, capsys: pytest.CaptureFixture[str]) -> None:
    page.add_account("ada")
    typed = "my secret password\r\n2030 login root\x1b[2J\u202e\0" + "x" * 100
    assert _guess(page.browser(), typed) == 401
    (entry,) = _entries(page, "login_failed")
    assert entry.account == "my secret password2030 login root[2j" + "x" * 28
    assert len(entry.account) == 64
    assert entry.account.isprintable()
    output = capsys.readouterr()
    assert "login failed" in output.out + output.err
    assert "secret" not in output.out + output.err
    assert _WRONG not in output.out + output.err


def test_a_script_logs_in_by_http_basic_with_an_account(page: ServedPage) -> None:
    page.add_account("ris")
    script = page.browser(_SECURE, "10.0.0.20")
    for _ in range(3):
        assert _api(script, "ris", PASSWORD).status_code == 200
    restarted = Browser(create_page(page.settings, page.ledger, page.store), _SECURE, ("10.0.0.20", 1))
    assert _api(restarted, "ris", PASSWORD).status_code == 200
    assert len(_entries(page, "login")) == 1
    assert not script.cookies
    # It needs no token: nothing but itself knows what it sends.
    assert _marks_nothing(script.post("/api/nothing", auth=("ris", PASSWORD)))
    # A browser that sends what it remembers for another site is refused.
    forged = script.post("/api/nothing", auth=("ris", PASSWORD), headers={"Sec-Fetch-Site": "cross-site"})
    assert forged.status_code == 403


def test_basic_is_for_the_api_alone_and_never_asked_for(page: ServedPage) -> None:
    page.add_account("ris", Role.ADMIN)
    script = page.browser(_SECURE, "10.0.0.20")
    assert script.get("/access", auth=("ris", PASSWORD)).status_code == 303
    for answer in (script.get("/api/worklist"), _api(script, "ris", _WRONG)):
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Bearer abc", "Basic " + base64.b64encode(b"\xff:x").decode()]
)
def test_a_broken_authorization_header_is_a_failed_login(page: ServedPage, header: str) -> None:
    page.add_account("ris")
    assert page.browser().get("/api/worklist", headers={"Authorization": header}).status_code == 401


def test_a_script_with_a_wrong_password_has_to_wait_like_anybody(page: ServedPage) -> None:
    page.add_account("ris")
    script = page.browser(_SECURE, "10.0.0.20")
    assert [_api(script, "ris", _WRONG).status_code for _ in range(6)] == [401] * 5 + [429]
    assert int(_api(script, "ris", PASSWORD).headers["retry-after"]) > 0


@pytest.mark.parametrize("change", ["password", "removal"])
def test_a_changed_account_is_refused_although_its_password_was_right_a_moment_ago(
    page: ServedPage, change: str
) -> None:
    page.add_account("somebody-else")
    page.add_account("ris")
    script = page.browser(_SECURE, "10.0.0.20")
    assert _api(script, "ris", PASSWORD).status_code == 200
    if change == "password":
        renewed = accounts.hash_password("ris", "another password")
        page.ledger.write(lambda session: accounts.change_password(session, "ris", renewed))
    else:
        page.ledger.write(lambda session: accounts.remove(session, "ris"))
    assert _api(script, "ris", PASSWORD).status_code == 401


def test_a_flood_of_logins_is_told_to_come_back(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    page.add_account("ada")
    monkeypatch.setattr(attempts, "_QUEUE", 0)
    answer = page.browser().log_in("ada", PASSWORD)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def _guess(browser: Browser, name: str) -> int:
    return int(browser.log_in(name, _WRONG).status_code)


def _api(browser: Browser, name: str, password: str) -> Any:
    return browser.get("/api/worklist", auth=(name, password))


def _marks_nothing(answer: Any) -> bool:
    """Whether the request reached the routes, where there is none for it."""
    return bool(answer.status_code == 404)


def _fail(page: ServedPage, name: str, addresses: list[str]) -> None:
    for address in addresses:
        access_log.entry(page.app.state.page, name, address, "login_failed")


def _age_log(page: ServedPage, seconds: float) -> None:
    page.ledger.write(lambda session: session.execute(update(AccessEntry).values(at=AccessEntry.at - seconds)))


def _entries(page: ServedPage, action: str) -> list[AccessEntry]:
    with page.ledger.read() as session:
        found = select(AccessEntry).where(AccessEntry.action == action, AccessEntry.at <= now() + 1)
        return list(session.scalars(found.order_by(AccessEntry.id)))
