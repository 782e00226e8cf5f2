"""TLS for DICOM associations, both sides (PS3.15 B.9, the BCP 195 profile): TLS 1.2 with forward secrecy, or later."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import SettingsError
from schemas.settings import DicomTlsSettings

#: The suites of TLS 1.2 that BCP 195 recommends (RFC 9325 4.2); those of TLS 1.3 are all of that kind.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"


@dataclass(frozen=True)
class ClientTls:
    """How we call a peer over TLS."""

    #: PEM file of the authorities behind the peer's certificate; None: the system's.
    authorities: Path | None = None
    #: PEM files to show where the peer asks for a certificate.
    certificate: Path | None = None
    key: Path | None = None


def server_context(settings: DicomTlsSettings) -> ssl.SSLContext:
    """For who is called. Raises SettingsError that names the file which is not usable."""
    context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert settings.certificate is not None and settings.key is not None
    _load_certificate(context, settings.certificate, settings.key, "dicom.tls.certificate", "dicom.tls.key")
    if settings.client_authorities is not None:
        _load_authorities(context, settings.client_authorities, "dicom.tls.client_authorities")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """For who calls: the peer's certificate has to name its host. Raises SettingsError."""
    context = _strict(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if tls.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, tls.authorities, "the authorities")
    if tls.certificate is not None:
        key = tls.key or tls.certificate
        _load_certificate(context, tls.certificate, key, "the certificate", "the key")
    return context


def _strict(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, first: str, second: str) -> None:
    for path, name in ((certificate, first), (key, second)):
        _check_readable(path, name)
    try:
        # An encrypted key would ask for its password at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"{second}: {key} is not the key of {certificate}.") from error
        raise SettingsError(
            f"{first}, {second}: {certificate} and {key} are not a PEM certificate and its key without password "
            f"({error.reason or error})."
        ) from error


def _load_authorities(context: ssl.SSLContext, path: Path, name: str) -> None:
    _check_readable(path, name)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise SettingsError(f"{name}: {path} holds no PEM certificates ({error.reason or error}).") from error


def _check_readable(path: Path, name: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(f"{name}: {path}: {error.strerror}.") from error
