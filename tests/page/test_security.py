"""The gate: who reaches a route, from where, and with what; and the headers that every answer carries."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Form
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from node.page.visitor import Admin, Operator, Reader
from schemas.account_tables import AccessEntry, Role
from schemas.errors import ChexnodeError, DeliveryError, NotDicomError
from tests.page.conftest import ServedPage

_OPEN = {"/login", "/static", "/health/live", "/health/ready", "/metrics"}
_SECURE = "https://page.example"
_PROXIES = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Host": "localhost"},
    {"Forwarded": "for=127.0.0.1"},
    {"Via": "1.1 proxy"},
    {"X-Real-IP": "127.0.0.1"},
    {"Referer": "http://chexnode.hospital.example/"},
]


# --- without accounts ------------------------------------------------------------------------------------------------


def test_this_host_is_answered_without_accounts(page: ServedPage) -> None:
    for address in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
        for base in ("http://localhost:8080", "http://127.0.0.1", "http://[::1]:8080", "http://127.0.0.53:1"):
            assert page.browser(base, address).get("/access").status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.2", "2001:db8::1", "::ffff:10.0.0.7", "", "testclient"])
def test_another_host_is_refused_until_accounts_exist(page: ServedPage, address: str) -> None:
    browser = page.browser(address=address)
    for path in ("/access", "/login", "/api/worklist", "/no/such/page"):
        assert browser.get(path).status_code == 403
    refusal = browser.get("/")
    assert "chexnode user add" in refusal.text
    assert browser.cookies == {}
    page.add_account("ada")
    assert page.browser(_SECURE, address).get("/login").status_code == 200


@pytest.mark.parametrize("headers", _PROXIES, ids=lambda headers: next(iter(headers)))
def test_a_proxy_on_this_host_is_no_way_around_that(page: ServedPage, headers: dict[str, str]) -> None:
    assert page.browser().get("/access", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil",
                                  "10.0.0.1:8080", "", "localhost:8080, evil.example"])  # fmt: skip
def test_a_name_that_somebody_points_at_this_host_is_refused(page: ServedPage, host: str) -> None:
    assert page.browser().get("/access", headers={"Host": host}).status_code == 403


def test_a_link_from_another_site_to_this_host_works(page: ServedPage) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
                "Referer": "https://ris.example/"}  # fmt: skip
    assert page.browser().get("/access", headers=followed).status_code == 200


def test_without_accounts_a_change_needs_the_token_all_the_same(page: ServedPage) -> None:
    browser = page.browser()
    assert browser.post("/logout").status_code == 403
    browser.get("/access")
    assert browser.post("/logout").status_code == 403
    assert browser.post("/api/nothing", auth=("any", "body")).status_code == 403
    assert browser.post("/logout", headers={"X-CSRF-Token": browser.token}).status_code == 303


# --- with accounts ---------------------------------------------------------------------------------------------------


def test_accounts_made_later_are_asked_for_without_a_restart(page: ServedPage) -> None:
    browser = page.browser()
    assert browser.get("/access").status_code == 200
    page.add_account("ada")
    assert browser.get("/access").headers["location"] == "/login?next=%2Faccess"


def test_every_route_but_login_needs_a_login(page: ServedPage) -> None:
    page.add_account("ada")
    paths = set(_paths(page.app))
    assert len(paths) > len(_OPEN)
    for path, method in paths:
        for browser in (page.browser(), page.browser(_SECURE, "10.0.0.7")):
            answer = browser.request(method, path)
            if path in _OPEN:
                assert answer.status_code != 401, path
            else:
                assert answer.status_code in (303, 401), (path, method)
                assert answer.status_code == 401 or answer.headers["location"].startswith("/login"), path


def test_every_route_that_changes_something_needs_the_token(page: ServedPage) -> None:
    browser = page.logged_in("ada", Role.ADMIN)
    changing = [(path, method) for path, method in _paths(page.app) if method not in ("GET", "HEAD")]
    assert changing
    for path, method in changing:
        assert browser.request(method, path).status_code == 403, (path, method)
        assert browser.request(method, path, headers={"X-CSRF-Token": "f" * 64}).status_code == 403, (path, method)


def test_a_mount_that_asks_for_nobody_is_closed_all_the_same(page: ServedPage) -> None:
    async def anything(scope: object, receive: object, send: object) -> None:
        await PlainTextResponse("patients")(scope, receive, send)  # type: ignore[arg-type]

    page.app.mount("/open-by-mistake", anything)
    page.add_account("ada")
    for path in ("/open-by-mistake/", "/open-by-mistake/static/x", "/open-by-mistake/login", "/open-by-mistake//login"):
        assert "patients" not in page.browser().get(path).text
    # What is in the Host header is no path.
    for host in ("page.example/login?", "page.example/static/x#", "page.example/health/live?"):
        answer = page.browser(_SECURE, "10.0.0.7").get("/open-by-mistake/", headers={"Host": host})
        assert "patients" not in answer.text


def test_the_roles_include_one_another(page: ServedPage) -> None:
    def reader(visitor: Reader) -> Response:
        return PlainTextResponse(visitor.name)

    def operator(visitor: Operator) -> Response:
        return PlainTextResponse(visitor.name)

    def admin(visitor: Admin) -> Response:
        return PlainTextResponse(visitor.name)

    for path, route in (("/for/reader", reader), ("/for/operator", operator), ("/for/admin", admin)):
        page.app.add_api_route(path, route)
    for rank, role in enumerate(Role):
        browser = page.logged_in(f"one-{role}", role)
        answers = [browser.get(f"/for/{each}").status_code for each in Role]
        assert answers == [200] * (rank + 1) + [403] * (2 - rank)


def test_who_is_not_logged_in_hears_it_in_the_way_that_was_asked(page: ServedPage) -> None:
    page.add_account("ada")
    browser = page.browser()
    assert browser.get("/studies/1.2.3?q=a b").headers["location"] == "/login?next=%2Fstudies%2F1.2.3%3Fq%3Da%2Bb"
    part = browser.get(
        "/rows", headers={"HX-Request": "true", "HX-Current-URL": "http://localhost:8080/access?study=1"}
    )
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=%2Faccess%3Fstudy%3D1")
    picture = browser.get("/pictures/1", headers={"Accept": "image/avif,image/*,*/*;q=0.8"})
    for answer in (
        picture,
        browser.get("/api/worklist"),
        browser.get("/events", headers={"Accept": "text/event-stream"}),
    ):
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 401


@pytest.mark.parametrize("current", ["//evil.example/", "http://[", "javascript:x", "http://x//evil.example/"])
def test_htmx_is_never_led_to_another_site(page: ServedPage, current: str) -> None:
    page.add_account("ada")
    answer = page.browser().get("/", headers={"HX-Request": "true", "HX-Current-URL": current})
    assert answer.headers["hx-redirect"] == "/login"


def test_passwords_and_patients_do_not_cross_the_network_in_the_clear(page: ServedPage) -> None:
    page.add_account("ada")
    plain = page.browser("http://page.example", "10.0.0.7")
    for answer in (plain.get("/"), plain.get("/login"), plain.post("/login"), plain.get("/api/worklist")):
        assert answer.status_code == 403
    assert "trusted_proxies" in plain.get("/login").text
    # Neither through a proxy on this host that nobody named, nor by another name of this host.
    assert page.browser().get("/login", headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 403
    assert page.browser("http://page.example").get("/login").status_code == 403


def test_over_https_the_cookies_are_bound_to_this_host(page: ServedPage) -> None:
    page.add_account("ada")
    browser = page.browser(_SECURE, "10.0.0.7")
    answer = browser.log_in("ada", "a tube above the carina")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-chexnode_session=")
    assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "domain" not in cookie.lower()
    # A cookie that a neighbour within the domain could have set is not looked at.
    neighbour = page.browser(_SECURE, "10.0.0.7")
    neighbour.cookies.set("chexnode_session", browser.cookies["__Host-chexnode_session"])
    assert neighbour.get("/").status_code == 303


# --- requests of other sites -----------------------------------------------------------------------------------------


def test_a_form_of_another_site_changes_nothing(page: ServedPage) -> None:
    browser = page.logged_in("ada")
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ):
        assert browser.send_form("/logout", headers=headers).status_code == 403, headers
    assert browser.send_form("/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


@pytest.mark.parametrize("headers", [{"Origin": "http://localhost:8080"}, {"Origin": "HTTP://LOCALHOST:8080"}, {}])
def test_a_form_of_the_page_itself_changes_what_it_should(page: ServedPage, headers: dict[str, str]) -> None:
    assert page.logged_in("ada").send_form("/logout", headers=headers).status_code == 303


def test_another_site_cannot_load_parts_of_the_page(page: ServedPage) -> None:
    for kind in ("image", "script", "iframe", "empty", "object"):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": kind}
        assert page.browser().get("/access", headers=headers).status_code == 403
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert page.browser().get("/access", headers=framed).status_code == 403


def test_the_token_of_one_login_is_of_no_use_in_another(page: ServedPage) -> None:
    ada, bob = page.logged_in("ada"), page.logged_in("bob")
    assert ada.post("/logout", data={"csrf_token": bob.token}).status_code == 403
    assert ada.post("/logout", data={"csrf_token": [bob.token, ada.token]}).status_code == 403
    assert ada.post("/logout", headers={"X-CSRF-Token": bob.token}, data={"csrf_token": ada.token}).status_code == 403
    assert ada.post("/logout", params={"csrf_token": ada.token}).status_code == 403
    assert ada.post("/logout", data={"csrf_token": ada.token}).status_code == 303


def test_a_route_still_reads_the_form_whose_token_was_looked_at(page: ServedPage) -> None:
    def marked(visitor: Reader, state: str = Form()) -> Response:
        return PlainTextResponse(state)

    page.app.add_api_route("/marked", marked, methods=["POST"])
    browser = page.logged_in("ada")
    assert browser.send_form("/marked", state="geöffnet & read").text == "geöffnet & read"


def test_nobody_sends_much_before_the_login(page: ServedPage) -> None:
    page.add_account("ada")
    browser = page.browser()
    browser.get("/login")
    assert browser.send_form("/login", name="a" * 100_000).status_code == 413
    token = {"X-CSRF-Token": browser.token}
    assert browser.post("/login", data={"name": "a" * 100_000}, headers=token).status_code == 413


# --- answers ---------------------------------------------------------------------------------------------------------


def test_every_answer_carries_the_headers(page: ServedPage) -> None:
    def crashing(visitor: Reader) -> Response:
        raise ZeroDivisionError("Doe^Jane")

    page.app.add_api_route("/crashing", crashing)
    browser = page.logged_in("ada")
    refused = page.browser("http://page.example", "10.0.0.7")
    for answer in (
        browser.get("/access"), browser.get("/nothing"), browser.get("/crashing"), browser.get("/static/icon.svg"),
        browser.get("/health/live"), refused.get("/"), page.browser().get("/login"), browser.post("/logout"),
        page.browser().get("/api/worklist"),
    ):  # fmt: skip
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'self'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data: blob:",
            "object-src": "'none'", "base-uri": "'none'", "form-action": "'self'", "frame-ancestors": "'none'",
        }  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]
        static = str(answer.url).endswith(".svg")
        assert answer.headers["cache-control"] == ("no-cache" if static else "no-store")
        assert "strict-transport-security" not in answer.headers
    assert "Doe" not in browser.get("/crashing").text


def test_https_is_remembered_except_for_localhost(page: ServedPage) -> None:
    page.add_account("ada")
    answer = page.browser(_SECURE, "10.0.0.7").get("/login")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in page.browser("https://localhost:8443").get("/login").headers


def test_a_route_may_set_its_own_policy_and_lifetime(page: ServedPage) -> None:
    own = {"Content-Security-Policy": "default-src 'none'", "Cache-Control": "private, max-age=9, immutable"}

    def viewer(visitor: Reader) -> Response:
        return PlainTextResponse("", headers=own)

    page.app.add_api_route("/own", viewer)
    answer = page.browser().get("/own")
    assert {name: answer.headers[name] for name in own} == own
    # Whoever logs in next on this host does not see what the browser kept.
    assert "Cookie" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (NotDicomError("Read the manual."), 400, True),
        (DeliveryError("Doe^Jane was not taken."), 500, False),
        (ChexnodeError("Doe^Jane"), 500, False),
    ],
)
def test_an_error_is_told_without_its_insides(page: ServedPage, error: ChexnodeError, status: int, told: bool) -> None:
    def failing(visitor: Reader) -> Response:
        raise error

    page.app.add_api_route("/failing", failing)
    page.app.add_api_route("/api/failing", failing)
    people, programs = page.browser().get("/failing"), page.browser().get("/api/failing")
    assert people.status_code == programs.status_code == status
    assert people.headers["content-type"].startswith("text/html")
    assert programs.headers["content-type"] == "application/problem+json"
    assert programs.json()["detail"] == (error.detail if told else "")
    for answer in (people, programs):
        assert (error.detail in answer.text) == told
        assert "Traceback" not in answer.text


def test_what_was_sent_is_not_sent_back_in_an_error(page: ServedPage) -> None:
    def numbered(visitor: Reader, number: int) -> Response:
        return PlainTextResponse(str(number))

    page.app.add_api_route("/api/numbered", numbered)
    answer = page.browser().get("/api/numbered", params={"number": "Doe^Jane"})
    assert answer.status_code == 422
    assert "number" in answer.json()["detail"]
    assert "Doe" not in answer.text


def test_nobody_is_let_in_because_accounts_cannot_be_looked_up(
    page: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.add_account("ada")
    _break(page, monkeypatch)
    page.app.state.gatekeeper._looked_at = float("-inf")
    assert page.browser().get("/access").status_code == 503


def test_the_page_has_no_websockets(page: ServedPage) -> None:
    with (
        pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)),
        page.browser().websocket_connect("/events"),
    ):
        pass


def test_a_flood_of_refused_requests_is_one_entry_a_minute(page: ServedPage) -> None:
    for _ in range(5):
        page.browser(address="10.0.0.7").get("/")
    page.browser(address="10.0.0.8").get("/")
    with page.ledger.read() as session:
        refused = session.scalars(select(AccessEntry).where(AccessEntry.action == "refused")).all()
    assert [entry.address for entry in refused] == ["10.0.0.7", "10.0.0.8"]


def test_an_account_that_reaches_too_far_is_written_down(page: ServedPage) -> None:
    page.logged_in("ada").get("/access")
    with page.ledger.read() as session:
        (entry,) = session.scalars(select(AccessEntry).where(AccessEntry.action == "refused"))
    assert (entry.account, entry.address) == ("ada", "127.0.0.1")
    assert "role admin" in entry.detail


def _paths(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every route and mount with every method, parameters filled in."""
    for route in iter_route_contexts(app.routes):
        path = route.path or "/"
        while "{" in path:
            path = path[: path.index("{")] + "1" + path[path.index("}") + 1 :]
        for method in sorted(route.methods or {"GET", "POST"}):
            yield path, method


def _break(page: ServedPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("gone"))

    monkeypatch.setattr(type(page.ledger), "read", fail)
