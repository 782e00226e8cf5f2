"""Does a DICOMweb destination answer, and does it take our credentials?"""

from collections.abc import Iterator

import requests

from node.delivery.stow import DOWN, service_root, web_session
from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok, warning
from schemas.settings import DicomwebDestination

_ANSWER_SECONDS = 10.0
_NO_ACCESS = {401, 403, 407}


def dicomweb_subject(destination: DicomwebDestination) -> Subject:
    """Checks of a DICOMweb destination. Nothing is stored: what STOW-RS stores, no other request has to delete."""
    name = f"destination.{destination.name}"

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge(f"{name}.qido", lambda: _qido(destination))

    return Subject(name, ("qido",), examine)


def _qido(destination: DicomwebDestination) -> Finding:
    """Search for Studies (PS3.18 section 10.6). What it finds are patients: only whether it answers is told."""
    option = f"destination {destination.name}"
    try:
        answer = web_session(destination).get(
            f"{service_root(destination)}/studies",
            params={"limit": "1"},
            headers={"Accept": "application/dicom+json"},
            timeout=min(destination.timeout_seconds, _ANSWER_SECONDS),
        )
    except requests.exceptions.SSLError as error:
        return failed(
            f"{destination.url}: its certificate is not accepted",
            f"Name the authorities behind it in tls_authorities of {option}.",
            error,
        )
    except (requests.RequestException, OSError) as error:
        return failed(f"{destination.url} does not answer", f"Start it, or correct url of {option}.", error)
    if answer.status_code in _NO_ACCESS:
        return failed(
            f"{destination.url} answers HTTP {answer.status_code}",
            f"Correct token, or username and password, of {option}.",
        )
    if answer.status_code in DOWN:
        return failed(f"{destination.url} answers HTTP {answer.status_code}", "Look at its log, and at its proxy's.")
    if not answer.ok:
        return warning(
            f"{destination.url} answers a search with HTTP {answer.status_code}",
            f"Where it serves no QIDO-RS that is as it should be; else correct url of {option}: what /studies comes "
            "after.",
        )
    return ok(f"{destination.url} answers QIDO-RS")
