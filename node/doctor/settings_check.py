"""Are the settings readable, and do they let in who should be let in, and nobody else?"""

import ipaddress
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from node.doctor.reach_ledger import LedgerUnavailableError, reach_ledger
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, skipped, warning
from schemas.account_tables import Account
from schemas.errors import SettingsError
from schemas.settings import (
    SETTINGS_VARIABLE,
    DicomwebDestination,
    OrthancDestination,
    Settings,
    load_settings,
    settings_file,
)

_PREFIX = "CHEXNODE_"
#: Variables that are no options of the settings.
_OTHER_VARIABLES = {SETTINGS_VARIABLE, "CHEXNODE_CI_VENVS", "CHEXNODE_ORTHANC"}
_OPTIONS = "each option is explained in schemas/settings.py"


def read_settings() -> Settings | SettingsError:
    """The settings in force, or what is wrong with them."""
    try:
        return load_settings()
    except SettingsError as error:
        return error


def settings_subject(settings: Settings | SettingsError) -> Subject:
    """Checks of the settings; those that need readable settings are left out when there are none."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge("settings.file", lambda: _file(settings))
        yield judge("settings.environment", _environment)
        yield judge("settings.secrets", lambda: _secrets(settings))
        if isinstance(settings, Settings):
            yield judge("settings.senders", lambda: _senders(settings))
            yield judge("settings.destinations", lambda: _destinations(settings))
            yield judge("settings.page", lambda: _page(settings))

    return Subject("settings", ("file", "environment", "secrets", "senders", "destinations", "page"), examine)


def passwords(settings: Settings | SettingsError) -> list[str]:
    """Every password of the settings, longest first, as written and as decoded from a URL."""
    if isinstance(settings, SettingsError):
        return []
    found = {make_url(settings.resolved_ledger_url).password or ""}
    urls = [settings.ledger_url, settings.broker_url]
    for destination in settings.destinations:
        if isinstance(destination, OrthancDestination | DicomwebDestination):
            urls.append(destination.url)
            if destination.password:
                found.add(destination.password.get_secret_value())
        if isinstance(destination, DicomwebDestination) and destination.token:
            found.add(destination.token.get_secret_value())
    if settings.store.secret:
        found.add(settings.store.secret.get_secret_value())
    for url in urls:
        password = _url_password(url)
        found |= {password, unquote(password)}
    return sorted(found - {""}, key=len, reverse=True)


def _url_password(url: str) -> str:
    """The password in a URL; "" for none."""
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""  # no URL at all


def _file(settings: Settings | SettingsError) -> Finding:
    if isinstance(settings, SettingsError):
        return failed("they cannot be used", f"Correct what is named; {_OPTIONS}.", settings.detail)
    path = settings_file()
    if path is None:
        return ok("no settings file: the defaults and the environment hold")
    return ok(str(path.resolve()))


def _environment() -> Finding:
    ours = sorted(name for name in os.environ if name.upper().startswith(_PREFIX) and name not in _OTHER_VARIABLES)
    unknown = [
        name for name in ours if name.upper().removeprefix(_PREFIX).lower().split("__")[0] not in Settings.model_fields
    ]
    if unknown:
        return warning(
            f"{', '.join(unknown)}: there is no such option, so it has no effect",
            f"Correct or remove it; {_OPTIONS}, and nested ones join with two underscores.",
        )
    if ours:
        return ok(f"set there, and stronger than the file: {', '.join(ours)}")
    return ok("no option is set there")


def _secrets(settings: Settings | SettingsError) -> Finding:
    """Files with secrets that every user of the host can read."""
    secret = []
    path = _named_file()
    if path is not None and _holds_password(path):
        secret.append(path)
    if isinstance(settings, Settings) and settings.page.tls_key:
        secret.append(settings.page.tls_key)
    open_to_all = [path for path in secret if path.is_file() and path.stat().st_mode & stat.S_IROTH]
    if open_to_all:
        names = " ".join(str(path) for path in open_to_all)
        return warning(
            f"every user of this host can read the secrets in {names}",
            f"chmod o-rwx {names} (the user that CheXNode runs as must own the file or be in its group).",
        )
    if secret:
        return ok(f"{', '.join(path.name for path in secret)} is not readable for every user of this host")
    return ok("no password and no key in a file")


def _named_file() -> Path | None:
    try:
        return settings_file()
    except SettingsError:
        return None


def _holds_password(path: Path) -> bool:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Not to be told apart then: better one warning too many.
        return b"password" in path.read_bytes()
    return _any_password(content)


def _any_password(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("password") or value.get("token") or value.get("secret")) or any(
            _any_password(each) for each in value.values()
        )
    if isinstance(value, list):
        return any(_any_password(each) for each in value)
    return isinstance(value, str) and bool(_url_password(value))


def _senders(settings: Settings) -> Finding:
    titles = settings.dicom.calling_ae_titles
    if not titles:
        return warning(
            "no calling AE title is allowed: every sender is rejected",
            "List the senders' AE titles in dicom.calling_ae_titles, then restart the node.",
        )
    return ok(f"may send: {', '.join(titles)}")


def _destinations(settings: Settings) -> Finding:
    if not settings.destinations:
        return warning(
            "there is none: results stay in the ledger and reach nobody",
            "Add a [[destinations]] table (README.md shows one), then restart the node.",
        )
    return ok(", ".join(f"{each.name} ({each.kind})" for each in settings.destinations))


def _page(settings: Settings) -> Finding:
    """Who can get at the worklist page (node/page/security.py refuses the rest)."""
    page = settings.page
    address = f"{page.host}:{page.port}"
    unreadable = [str(path) for path in (page.tls_certificate, page.tls_key) if path and not os.access(path, os.R_OK)]
    if unreadable:
        return failed(f"cannot be read: {', '.join(unreadable)}", "Correct page.tls_certificate and page.tls_key.")
    if _is_this_host(page.host):
        return ok(f"{address} is for this host only")
    accounts = _accounts(settings)
    if accounts == 0:
        return warning(
            f"{address} is open to the network, but without any account only this host is answered",
            "Make an account with chexnode user add, or set page.host to 127.0.0.1.",
        )
    if not page.tls_certificate and not page.trusted_proxies:
        return warning(
            f"{address} is open to the network without HTTPS, so other hosts are refused",
            "Set page.tls_certificate and page.tls_key; or set page.host to 127.0.0.1, put a proxy that speaks HTTPS "
            "in front and name its address in page.trusted_proxies.",
        )
    way = "by HTTPS" if page.tls_certificate else f"through the proxy {', '.join(map(str, page.trusted_proxies))}"
    if accounts is None:
        return skipped(f"{address} is open to the network {way}; the ledger does not say whether there are accounts")
    return ok(f"{address} is open to the network {way}, for {accounts} {'account' if accounts == 1 else 'accounts'}")


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _accounts(settings: Settings) -> int | None:
    """How many accounts there are; None when the ledger cannot say."""
    try:
        with reach_ledger(settings) as ledger, ledger.read() as session:
            return session.scalar(select(func.count()).select_from(Account)) or 0
    except (LedgerUnavailableError, SQLAlchemyError):
        return None
