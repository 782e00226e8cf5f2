"""DICOM over TLS with DCMTK's storescu and with our own, with and without certificates of senders."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.ledger.ledger import Ledger
from node.network.association import NoAssociation, NoAssociationError
from node.network.dicom_tls import ClientTls, server_context
from node.network.send import send_command, send_files
from schemas.errors import SettingsError
from schemas.settings import DicomTlsSettings
from tests.node.receiving import CALLING, Service, served
from tests.support.dicom_tools import storescu
from tests.support.peers import require
from tests.support.phantoms import write_phantom
from tests.support.processes import free_port


class Pems:
    """An authority, and what it signed for the node and for a sender."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = self._make("authority", "/CN=Test authority", ["-addext", "basicConstraints=critical,CA:TRUE"])
        self.node = self._make("node", "/CN=localhost", ["-addext", "subjectAltName=DNS:localhost"], signed=True)
        self.sender = self._make("sender", "/CN=sender", [], signed=True)
        self.stranger = self._make("stranger", "/CN=stranger", [])

    def key(self, certificate: Path) -> Path:
        return certificate.with_suffix(".key")

    def _make(self, name: str, subject: str, options: list[str], signed: bool = False) -> Path:
        certificate = self.folder / f"{name}.pem"
        command = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject]
        if signed:
            options = [*options, "-CA", str(self.authority), "-CAkey", str(self.key(self.authority))]
        files = ["-out", str(certificate), "-keyout", str(self.key(certificate))]
        subprocess.run([*command, *options, *files], check=True, capture_output=True)
        return certificate


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Pems:
    return Pems(tmp_path_factory.mktemp("pems"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("object") / "a.dcm"
    write_phantom(path, rows=300, columns=300)
    return path


@pytest.fixture
def service(sqlite_ledger: Ledger, tmp_path: Path, pems: Pems) -> Iterator[Service]:
    """Senders have to show a certificate."""
    tls = DicomTlsSettings(
        port=free_port(), certificate=pems.node, key=pems.key(pems.node), client_authorities=pems.authority
    )
    with served(sqlite_ledger, tmp_path, tls=tls, plain=False) as service:
        yield service


def test_dcmtk_sends_over_tls_with_its_certificate_and_not_without(service: Service, pems: Pems, path: Path) -> None:
    port = service.dicom.tls.port
    own = ["+tls", str(pems.key(pems.sender)), str(pems.sender), "+cf", str(pems.authority)]
    assert storescu(port, [path], own).returncode == 0
    assert service.receptions() == 1
    stranger = ["+tls", str(pems.key(pems.stranger)), str(pems.stranger), "+cf", str(pems.authority)]
    assert storescu(port, [path], stranger).returncode != 0
    assert storescu(port, [path], ["+tla", "+cf", str(pems.authority)]).returncode != 0
    assert storescu(port, [path]).returncode != 0


def test_our_own_sender_speaks_it_and_says_what_is_wrong(service: Service, pems: Pems, path: Path) -> None:
    good = ClientTls(pems.authority, pems.sender, pems.key(pems.sender))
    assert service.send(path, tls=good)[0].status == 0
    with pytest.raises(NoAssociationError) as caught:
        service.send(path, tls=ClientTls(pems.stranger))
    assert caught.value.reason == NoAssociation.NO_TLS
    assert "--ca" in caught.value.to_do
    with pytest.raises(NoAssociationError, match="takes the connection but does not answer"):
        send_files([path], "localhost", service.dicom.tls.port, "CHEXNODE", CALLING)


def test_a_certificate_for_another_host_is_not_trusted(service: Service, pems: Pems, path: Path) -> None:
    tls = ClientTls(pems.authority, pems.sender, pems.key(pems.sender))
    with pytest.raises(NoAssociationError) as caught:
        send_files([path], "127.0.0.1", service.dicom.tls.port, "CHEXNODE", CALLING, tls=tls)
    assert caught.value.reason == NoAssociation.NO_TLS


def test_a_handshake_that_never_ends_holds_nobody_up(service: Service, pems: Pems, path: Path) -> None:
    with socket.create_connection(("127.0.0.1", service.dicom.tls.port)):
        good = ClientTls(pems.authority, pems.sender, pems.key(pems.sender))
        assert service.send(path, tls=good)[0].status == 0


def test_tls_beside_the_plain_port_needs_no_certificate_of_the_sender(
    sqlite_ledger: Ledger, tmp_path: Path, pems: Pems, path: Path
) -> None:
    tls = DicomTlsSettings(port=free_port(), certificate=pems.node, key=pems.key(pems.node))
    with served(sqlite_ledger, tmp_path, tls=tls) as service:
        assert service.send(path)[0].status == 0
        assert service.send(path, tls=ClientTls(pems.authority))[0].status == 0


def test_each_bad_file_is_named(pems: Pems, tmp_path: Path) -> None:
    (tmp_path / "noise.pem").write_text("noise")
    good = DicomTlsSettings(certificate=pems.node, key=pems.key(pems.node))
    cases = [
        ({"certificate": tmp_path / "absent.pem"}, "dicom.tls.certificate: .*absent.pem: No such file"),
        ({"certificate": tmp_path / "noise.pem"}, "noise.pem and .* are not a PEM certificate and its key"),
        ({"key": pems.key(pems.sender)}, "dicom.tls.key: .*sender.key is not the key of .*node.pem"),
        ({"client_authorities": tmp_path / "noise.pem"}, "dicom.tls.client_authorities: .* holds no PEM"),
    ]
    for change, message in cases:
        with pytest.raises(SettingsError, match=message):
            server_context(good.model_copy(update=change))


def test_the_command_speaks_it_too(service: Service, pems: Pems, path: Path) -> None:
    to = ["--to", f"CHEXNODE@localhost:{service.dicom.tls.port}", "--as", CALLING]
    files = ["--ca", pems.authority, "--certificate", pems.sender, "--key", pems.key(pems.sender)]
    run = CliRunner().invoke(send_command, [str(path), *to, "--tls", *map(str, files)])
    assert run.exit_code == 0, run.output
    assert "1 accepted" in run.output
    run = CliRunner().invoke(send_command, [str(path), *to, "--ca", str(pems.authority)])
    assert run.exit_code == 2
    assert "belong to --tls" in run.output
