"""Bundles change and stand side by side in a running node: nothing is lost or read twice, and nothing bad serves."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, generate_uid
from sqlalchemy import func, select

from node.bundles.activation import activate, register, retire
from node.bundles.registry import active_bundles
from node.storage.object_store import FolderObjectStore
from schemas.bundle import bundle_digest
from schemas.result import StudyResult
from schemas.tables import Inference, Result, ServedBundle, StoredObject, Study, WorkState
from tests.end_to_end.test_commands import run_chexnode
from tests.support.bundles import spoil, write_tiny_bundle
from tests.support.live_node import LiveNode
from tests.support.phantoms import write_phantom
from tests.support.processes import wait_for

STUDIES = 20
CHANGES = 4


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """Receiver, worker and delivery into a folder; active is the bundle "tiny" alone, of version 1."""
    folder = tmp_path_factory.mktemp("bundles")
    destination = f'[[destinations]]\nname = "out"\nkind = "folder"\npath = "{folder / "out"}"\nobjects = ["report"]\n'
    live = LiveNode(folder / "home", "", "", destination)
    first = register(live.ledger, live.home, write_tiny_bundle(folder / "1", "tiny", "1"))
    live.ledger.write(lambda session: activate(session, first))
    try:
        live.start("node", "worker", "delivery")
        yield live
    finally:
        live.stop()


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("radiograph") / "a.dcm"
    write_phantom(path, rows=300, columns=300)
    return dcmread(path)


def write_copies(radiograph: Dataset, folder: Path, count: int) -> list[Path]:
    """The radiograph as `count` studies, of which no two have the same pixels."""
    files = []
    for number in range(count):
        pixels = radiograph.pixel_array.copy()
        pixels[0, 0] = number + np.uint16(int(folder.name[-1]) * 100)
        radiograph.PixelData = pixels.tobytes()
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(radiograph, keyword, generate_uid(prefix=None))
        radiograph.file_meta.MediaStorageSOPInstanceUID = radiograph.SOPInstanceUID
        files.append(folder / f"{number}.dcm")
        radiograph.save_as(files[-1])
    return files


def activated(node: LiveNode, folder: Path) -> str:
    digest = register(node.ledger, node.home, folder)
    node.ledger.write(lambda session: activate(session, digest))
    return digest


def current_results(node: LiveNode, studies: set[str]) -> list[Result]:
    with node.ledger.read() as session:
        query = select(Result).join(Study).where(Study.study_instance_uid.in_(studies), Result.current)
        return list(session.scalars(query.order_by(Result.id)))


def served(node: LiveNode) -> dict[str, str]:
    """What the worker says of each active bundle: "" when it serves it."""
    with node.ledger.read() as session:
        return {row.bundle_digest: row.error for row in session.scalars(select(ServedBundle))}


def active_digests(node: LiveNode) -> set[str]:
    with node.ledger.read() as session:
        return {each.digest for each in active_bundles(session)}


def test_changes_of_version_while_images_stream_in_lose_and_fail_nothing(
    node: LiveNode, radiograph: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "files0").mkdir()
    files = write_copies(radiograph, tmp_path / "files0", STUDIES)
    studies = {dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in files}
    with node.ledger.read() as session:
        (first,) = active_bundles(session)
    folders = [node.home / "bundles" / first.digest, write_tiny_bundle(tmp_path / "2", "tiny", "2", seed=1)]
    sender = threading.Thread(target=lambda: [node.send(path) for path in files])
    sender.start()
    for change in range(1, CHANGES + 1):
        # In the middle of the work, wherever that is; the worker may still be busy with the change before.
        wait_for(f"change {change}", lambda n=change: _received(node, studies) >= n * STUDIES // (CHANGES + 1))  # type: ignore[misc]
        last = activated(node, folders[change % 2])
    sender.join()
    results = wait_for(
        "every study has its result",
        lambda: found if len(found := current_results(node, studies)) == STUDIES else None,
        120,
    )
    wait_for("the last version is served alone", lambda: served(node) == {last: ""})
    with node.ledger.read() as session:
        computed = {row.id: row for row in session.scalars(select(Inference))}
        assert {row.state for row in computed.values()} == {WorkState.DONE}
        for result in map(session.merge, results):
            document = StudyResult.model_validate_json(result.document or "")
            assert document.bundle.digest == result.bundle_digest
            assert {computed[image.inference_id].bundle_digest for image in result.images} == {result.bundle_digest}
        assert session.scalar(select(func.count()).select_from(Result)) == STUDIES
    assert {row.bundle_digest for row in computed.values()} <= {first.digest, bundle_digest(folders[1])}
    # No change costs an attempt.
    assert "will be tried again" not in (node.home / "worker.log").read_text()


def _received(node: LiveNode, studies: set[str]) -> int:
    with node.ledger.read() as session:
        query = select(func.count()).select_from(Study).where(Study.study_instance_uid.in_(studies))
        return session.scalar(query) or 0


def tracking_uids(node: LiveNode, stored: StoredObject) -> set[str]:
    """Every Tracking UID (112040, DCM) of a report."""
    assert stored.sha256
    report = dcmread(FolderObjectStore(node.home / "objects").path(stored.sha256))
    named = (each for each in report.iterall() if each.keyword == "ContentSequence")
    items = [item for sequence in named for item in sequence.value if "UID" in item]
    return {str(item.UID) for item in items if item.ConceptNameCodeSequence[0].CodeValue == "112040"}


def test_two_bundles_analyse_an_image_that_is_read_once_and_give_a_report_each(
    node: LiveNode, radiograph: Dataset, tmp_path: Path
) -> None:
    other = activated(node, write_tiny_bundle(tmp_path / "other", "other", "1", seed=2))
    try:
        wait_for("both are served", lambda: len(served(node)) == 2 and not any(served(node).values()))
        (tmp_path / "files1").mkdir()
        (file,) = write_copies(radiograph, tmp_path / "files1", 1)
        uid = dcmread(file).StudyInstanceUID
        node.send(file)
        results = wait_for(
            "a result of each", lambda: found if len(found := current_results(node, {uid})) == 2 else None
        )
        assert {result.bundle_digest for result in results} == active_digests(node) >= {other}
        assert {(result.bundle_name, result.version) for result in results} == {("tiny", 1), ("other", 1)}
        objects = node.wait_delivered(uid)
        assert [each.sop_class_uid for each in objects] == [Comprehensive3DSRStorage] * 2
        tiny_tracks, other_tracks = (tracking_uids(node, each) for each in objects)
        assert tiny_tracks and other_tracks and not tiny_tracks & other_tracks, "the regions of two are not the same"
        with node.ledger.read() as session:
            readings = session.scalars(select(Inference.read_ms).order_by(Inference.id.desc()).limit(2)).all()
        assert sum(reading is not None for reading in readings) == 1
    finally:
        node.ledger.write(lambda session: retire(session, "other"))


def test_a_bundle_that_computes_something_else_is_refused_and_the_old_one_goes_on(
    node: LiveNode, radiograph: Dataset, tmp_path: Path
) -> None:
    before = active_digests(node)
    bad = write_tiny_bundle(tmp_path / "bad", "tiny", "3", seed=3)
    spoil(bad)
    run = run_chexnode("--settings", node.settings, "bundle", "activate", bad)
    assert run.returncode == 1
    assert "self-test" in run.stderr and "differs by" in run.stderr and "Traceback" not in run.stderr
    assert active_digests(node) == before
    # One whose files go bad after the command has looked at them: the worker refuses it, and serves the other.
    broken = register(node.ledger, node.home, write_tiny_bundle(tmp_path / "broken", "broken", "1", seed=4))
    spoil(node.home / "bundles" / broken)
    node.ledger.write(lambda session: activate(session, broken))
    (tmp_path / "files2").mkdir()
    (file,) = write_copies(radiograph, tmp_path / "files2", 1)
    try:
        node.send(file)
        (result,) = wait_for("its result", lambda: current_results(node, {dcmread(file).StudyInstanceUID}))
        assert result.bundle_digest in before
        assert "differs by" in wait_for("the worker says why", lambda: served(node).get(broken))
    finally:
        node.ledger.write(lambda session: retire(session, "broken"))


def test_an_operator_activates_rolls_back_and_retires_while_the_node_runs(node: LiveNode, tmp_path: Path) -> None:
    (before,) = active_digests(node)
    folder = write_tiny_bundle(tmp_path / "4", "tiny", "4", seed=5)
    activated_now = run_chexnode("--settings", node.settings, "bundle", "activate", folder)
    assert activated_now.returncode == 0 and "self-test passed" in activated_now.stdout, activated_now.stderr
    (after,) = active_digests(node)
    assert after != before
    wait_for("the new one is served", lambda: served(node) == {after: ""})
    listed = run_chexnode("--settings", node.settings, "bundle", "list", environment={"COLUMNS": "200"}).stdout
    (line,) = [line for line in listed.splitlines() if after[:12] in line]
    assert "active" in line and str(folder) in line
    back = run_chexnode("--settings", node.settings, "bundle", "rollback")
    assert back.returncode == 0 and active_digests(node) == {before}, back.stderr
    wait_for("the old one is served", lambda: served(node) == {before: ""})
