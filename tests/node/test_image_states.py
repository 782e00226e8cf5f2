"""How far an image is when several bundles have a say in it: done only when all are, and never for want of one."""

from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from node.ledger.ledger import Ledger, now
from node.reading import lock_study
from node.results.image_states import Analysis, ImageState
from node.worklist import Row, read_rows
from schemas.codes import TubePosition
from schemas.result import FailedImage
from schemas.tables import Instance, Result, Study, WorkState
from tests.node.bundles import activated, retired
from tests.node.studies import add_image, add_study, bundle_digest, commit_result, document


@pytest.fixture
def study(ledger: Ledger) -> str:
    add_study(ledger, "1.1")
    return "1.1"


def row(ledger: Ledger) -> Row:
    with ledger.read() as session:
        (found,) = read_rows(session, session.scalars(select(Study)).all(), 0.0)
        return found


def image(ledger: Ledger) -> ImageState:
    (state,) = row(ledger).images
    return state


def queue(ledger: Ledger, uid: str, bundle: str, state: WorkState = WorkState.DUE, error: str = "") -> None:
    """The image has an analysis under this bundle."""

    def change(session: Session) -> None:
        found = lock_study(session, uid)
        assert found is not None
        add_image(session, found, state, error, bundle=bundle)

    ledger.write(change)


def said(ledger: Ledger, uid: str, bundle: str) -> None:
    commit_result(ledger, document(uid, TubePosition.NORMAL, set(), bundle=bundle))


def test_an_image_is_done_when_every_bundle_that_has_it_is(ledger: Ledger, study: str) -> None:
    for bundle in ("a", "b", "c"):
        activated(ledger, bundle)
    queue(ledger, study, "a")
    queue(ledger, study, "b")
    assert image(ledger).analysis is Analysis.PENDING
    said(ledger, study, "a")
    assert image(ledger).analysis is Analysis.PENDING
    assert [each.images[0].sop_instance_uid for each in row(ledger).bundles] == ["1.1.1"]  # what is there is shown
    said(ledger, study, "b")
    assert image(ledger).analysis is Analysis.DONE  # "c" does not take such images


def test_a_failure_names_the_bundle_where_there_are_several(ledger: Ledger, study: str) -> None:
    queue(ledger, study, "a", WorkState.FAILED, "It is too dark.")
    assert (image(ledger).analysis, image(ledger).reason) == (Analysis.FAILED, "It is too dark.")
    for bundle in ("a", "b"):
        activated(ledger, bundle)
    said(ledger, study, "b")
    assert (image(ledger).analysis, image(ledger).reason) == (Analysis.FAILED, "a: It is too dark.")
    assert len(row(ledger).results) == 1


def test_a_failure_that_a_result_names_is_one(ledger: Ledger, study: str) -> None:
    made = document(study, None, set())
    failed = [FailedImage(sop_instance_uid="1.1.1", reason="It is too dark.")]
    commit_result(ledger, made.model_copy(update={"images": [], "failed": failed}))
    assert (image(ledger).analysis, image(ledger).reason) == (Analysis.FAILED, "It is too dark.")


def test_nobody_waits_for_a_bundle_that_was_retired(ledger: Ledger, study: str) -> None:
    for bundle in ("a", "b"):
        activated(ledger, bundle)
    queue(ledger, study, "b", WorkState.LEASED)  # somebody holds it, and may never come back
    said(ledger, study, "a")
    retired(ledger, "b")
    assert image(ledger).analysis is Analysis.DONE


def test_what_a_retired_bundle_said_stays(ledger: Ledger, study: str) -> None:
    activated(ledger, "a")
    said(ledger, study, "a")
    retired(ledger, "a")
    assert image(ledger).analysis is Analysis.DONE
    assert row(ledger).bundles[0].name == "a"


def test_the_old_version_speaks_until_the_new_one_does(ledger: Ledger, study: str) -> None:
    activated(ledger, "a")
    said(ledger, study, "a")
    newer = activated(ledger, "a", version="2")

    def change(session: Session) -> None:
        found = lock_study(session, study)
        assert found is not None
        add_image(session, found, WorkState.DUE, bundle="a", version="2")

    ledger.write(change)
    assert newer == bundle_digest("a", "2")
    assert image(ledger).analysis is Analysis.DONE


@pytest.mark.parametrize(
    ("again", "expected"), [(False, Analysis.FAILED), (True, Analysis.PENDING)], ids=["given up", "taken up again"]
)
def test_an_analysis_of_which_no_result_could_be_made_is_no_analysis_under_way(
    ledger: Ledger, study: str, again: bool, expected: Analysis
) -> None:
    activated(ledger, "a")

    def change(session: Session) -> None:
        found = lock_study(session, study)
        assert found is not None
        made_from = add_image(session, found, WorkState.DONE, bundle="a")
        values = {"bundle_digest": bundle_digest("a"), "bundle_name": "a", "due_at": now(), "created_at": now()}
        state = WorkState.DUE if again else WorkState.FAILED
        session.add(Result(study_id=found.id, version=1, state=state, error="No space.", images=[made_from], **values))

    ledger.write(change)
    assert image(ledger).analysis is expected
    assert ("No space." in image(ledger).reason) is not again


def set_aside(session: Session) -> None:
    session.scalars(select(Instance)).one().selected = False


def new_pixels(session: Session) -> None:
    session.scalars(select(Instance)).one().pixel_digest = "new"


@pytest.mark.parametrize(("change", "expected"), [(set_aside, Analysis.SET_ASIDE), (new_pixels, Analysis.PENDING)])
def test_no_bundle_speaks_for_an_image_that_is_another_now(
    ledger: Ledger, study: str, change: Callable[[Session], None], expected: Analysis
) -> None:
    for bundle in ("a", "b"):
        said(ledger, study, bundle)
    ledger.write(change)
    assert image(ledger).analysis is expected
    assert row(ledger).results == []
