"""Pictures of a study: what a browser may keep of them, and addresses that name none."""

import pytest
from sqlalchemy import select
from starlette.requests import Request

from node.page.study import _is_kept
from schemas.account_tables import Role
from schemas.codes import TubePosition
from schemas.tables import Picture
from tests.node.studies import add_study, commit_result, document
from tests.page.conftest import PASSWORD, ServedPage
from tests.page.test_worklist_and_api import add_picture


def _draw(page: ServedPage) -> str:
    """Make a study with pictures; returns the digest of their archive."""
    add_study(page.ledger, "1.1")
    commit_result(page.ledger, document("1.1", TubePosition.NORMAL, set()))
    add_picture(page)
    with page.ledger.read() as session:
        return str(session.scalars(select(Picture.sha256)).one())


def test_a_picture_that_the_browser_has_is_shown_only_after_it_asked(page: ServedPage) -> None:
    sha256 = _draw(page)
    page.add_account("ada", Role.READER)
    stranger = page.browser()
    browser = page.browser()
    browser.log_in("ada", PASSWORD)
    for name in ("thumbnail.jpg", "pixels.u16.gz"):
        address = f"/pictures/{sha256}/{name}"
        # A made-up member of the archive is no gzip: only the headers are looked at.
        with browser.stream("GET", address) as answer:
            assert answer.status_code == 200
            headers = answer.headers
        assert {each.strip() for each in headers["cache-control"].split(",")} == {"private", "no-cache"}
        assert headers["etag"].startswith('"'), "a strong one"
        again = browser.get(address, headers={"If-None-Match": headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (headers["etag"], headers["cache-control"])
        refused = stranger.get(address, headers={"If-None-Match": headers["etag"], "Sec-Fetch-Dest": "image"})
        assert refused.status_code == 401
        gone = browser.get(f"/pictures/{sha256}/absent.jpg", headers={"If-None-Match": "*"})
        assert gone.status_code == 404


def test_each_picture_has_a_tag_of_its_own(page: ServedPage) -> None:
    sha256 = _draw(page)
    browser = page.browser()
    tag = browser.get(f"/pictures/{sha256}/thumbnail.jpg").headers["etag"]
    with browser.stream("GET", f"/pictures/{sha256}/pixels.u16.gz", headers={"If-None-Match": tag}) as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ('"a/b"', True),
        ('W/"a/b"', True),
        ('"x", "a/b"', True),
        ("*", True),
        ("", False),
        ('"a/c"', False),
        ("a/b", False),
    ],
)
def test_tags_are_compared_as_http_wants_it(given: str, kept: bool) -> None:
    headers = [(b"if-none-match", given.encode())]
    assert _is_kept(Request({"type": "http", "headers": headers}), '"a/b"') is kept


@pytest.mark.parametrize(
    "digest", ["%00", "a%00b", "%00" * 64, "A" * 64, "0" * 63, "0" * 65, "%0A" + "0" * 64, "é" * 64]
)
def test_an_address_that_names_no_archive_is_not_found(page: ServedPage, digest: str) -> None:
    assert page.browser().get(f"/pictures/{digest}/x").status_code == 404


@pytest.mark.parametrize("name", ["%00", "thumbnail.jpg%00", "%0D%0AX-Evil:1", "..%2f..%2fledger.db", "💀"])
def test_an_address_that_names_no_member_is_not_found(page: ServedPage, name: str) -> None:
    sha256 = _draw(page)
    assert page.browser().get(f"/pictures/{sha256}/{name}").status_code == 404
