"""The page as it is served: real connections, HTTPS and a proxy in front."""

import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from node.page import sessions
from node.page.app import create_page
from node.page.service import _configuration
from schemas.settings import PageSettings
from tests.page.conftest import PASSWORD, ServedPage
from tests.support.peers import require
from tests.support.processes import free_port, wait_for

_BROUGHT_BY_PROXY = {"X-Forwarded-For": "10.0.0.7", "X-Forwarded-Proto": "https", "Host": "page.example"}


def test_browsers_on_this_host_alone_are_answered_whatever_address_is_set(page: ServedPage) -> None:
    with _served(page, host="0.0.0.0") as port:
        assert httpx.get(f"http://127.0.0.1:{port}/access").status_code == 200
        assert httpx.get(f"http://localhost:{port}/access").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/access", headers={"Host": "evil.example"}).status_code == 403
        answer = httpx.get(f"http://{_address_on_the_network()}:{port}/access")
        assert answer.status_code == 403
        assert "chexnode user add" in answer.text


def test_a_proxy_that_the_settings_name_brings_people_in(page: ServedPage) -> None:
    with (
        _served(page, trusted_proxies=["127.0.0.1"]) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as proxy,
    ):
        # Without accounts it brings nobody in, whatever it says of where they come from.
        assert proxy.get("/access", headers=_BROUGHT_BY_PROXY).status_code == 403
        local = _BROUGHT_BY_PROXY | {"X-Forwarded-For": "127.0.0.1", "Host": "localhost"}
        assert proxy.get("/access", headers=local).status_code == 403
        page.add_account("ada")
        wait_for("it is let in", lambda: proxy.get("/login", headers=_BROUGHT_BY_PROXY).status_code == 200)
        form = proxy.get("/login", headers=_BROUGHT_BY_PROXY)
        assert form.headers["strict-transport-security"]
        answer = _log_in(proxy, form, PASSWORD)
        assert answer.headers["set-cookie"].startswith("__Host-chexnode_session=")
        # What is counted is the address behind the proxy.
        for _ in range(5):
            _log_in(proxy, form, "not the password")
        assert _log_in(proxy, form, PASSWORD).status_code == 429
        elsewhere = _BROUGHT_BY_PROXY | {"X-Forwarded-For": "10.0.0.8"}
        assert _log_in(proxy, form, PASSWORD, elsewhere).status_code == 303
        # It has to say that it was HTTPS up to there.
        plain = _BROUGHT_BY_PROXY | {"X-Forwarded-Proto": "http"}
        assert proxy.get("/login", headers=plain).status_code == 403


def test_what_any_other_proxy_says_is_not_believed(page: ServedPage) -> None:
    page.add_account("ada")
    with _served(page, trusted_proxies=["10.9.9.9"]) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/login", headers=_BROUGHT_BY_PROXY).status_code == 403
    with _served(page) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/login", headers=_BROUGHT_BY_PROXY).status_code == 403


def test_a_proxy_that_says_nothing_of_itself_is_told_by_its_old_http(page: ServedPage) -> None:
    with _served(page) as port:
        for version, status in (("1.0", 403), ("1.1", 200)):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                request = f"GET /access HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                assert f" {status} ".encode() in connection.recv(64)


def test_https_from_another_host_is_enough_to_log_in(page: ServedPage, tmp_path: Path) -> None:
    page.add_account("ada")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    _sign_for_itself(certificate, key)
    with (
        _served(page, host="0.0.0.0", tls_certificate=certificate, tls_key=key) as port,
        httpx.Client(base_url=f"https://{_address_on_the_network()}:{port}", verify=False) as browser,
    ):
        form = browser.get("/login")
        assert form.status_code == 200
        answer = _log_in(browser, form, PASSWORD, {})
        assert answer.status_code == 303
        assert browser.get("/access").status_code == 403  # a reader, and known


def test_guessing_many_at_once_gains_nothing(page: ServedPage) -> None:
    page.add_account("ada")
    with _served(page, trusted_proxies=["127.0.0.1"]) as port, ThreadPoolExecutor(20) as guessers:
        root = f"http://127.0.0.1:{port}"
        form = httpx.get(f"{root}/login", headers=_BROUGHT_BY_PROXY)

        def guess(number: int) -> int:
            with httpx.Client(base_url=root, timeout=60) as client:
                return _log_in(client, form, f"guess number {number}").status_code

        statuses = list(guessers.map(guess, range(40)))
    # One more may be under way when the fifth fails.
    assert statuses.count(401) in (5, 6)
    assert statuses.count(401) + statuses.count(429) == 40


def _log_in(
    client: httpx.Client, form: httpx.Response, password: str, headers: Mapping[str, str] = _BROUGHT_BY_PROXY
) -> httpx.Response:
    """POST of the login form with the cookie that came with it."""
    secret = form.cookies[f"__Host-{sessions.FORM_COOKIE}"]
    return client.post(
        "/login",
        data={"name": "ada", "password": password, "csrf_token": sessions.csrf_token(secret)},
        headers={**headers, "Cookie": f"__Host-{sessions.FORM_COOKIE}={secret}"},
    )


def _sign_for_itself(certificate: Path, key: Path) -> None:
    command = [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    options = ["-days", "1", "-subj", "/CN=page.example", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command, *options], check=True, capture_output=True)


def _address_on_the_network() -> str:
    """An address of this host that is not the loopback's; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no network")
        address: str = probe.getsockname()[0]
    return address


@contextmanager
def _served(page: ServedPage, **settings: Any) -> Iterator[int]:
    """The page on a port, served as `chexnode page` serves it."""
    port = free_port()
    chosen = page.settings.model_copy(update={"page": PageSettings(port=port, **settings)})
    server = uvicorn.Server(_configuration(chosen, create_page(chosen, page.ledger, page.store)))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for("the page is served", lambda: server.started or not thread.is_alive())
        assert server.started
        yield port
    finally:
        server.should_exit = True
        thread.join()
