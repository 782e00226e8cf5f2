"""The registry of bundles: what becomes active, what it takes over, and that no kill or race leaves it in pieces."""

import json
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from node.bundles.activation import activate, before, provide_shipped, register, retire
from node.bundles.files import bundle_path, keep_files
from node.bundles.handing_over import hand_over, has_orphans
from node.bundles.registry import BundleNotFoundError, BundleStateError, active_bundles, find_bundle, manifest_of
from node.ledger.database import upgrade
from node.ledger.ledger import Ledger, now, open_ledger
from schemas.bundle import LinearHead, Population, ScoredClass, bundle_digest, bundle_folder, read_manifest
from schemas.command_line import chexnode
from schemas.errors import BundleError
from schemas.settings import Settings, load_settings
from schemas.tables import Bundle, BundleState, Inference, Instance, Result, ResultImage, Series, Study, WorkState
from tests.node.bundles import activated, registered, retired
from tests.support.processes import Running, wait_for

SHIPPED = bundle_folder(None)
#: No result says anything of it.
NAMELESS = ScoredClass(target="class_00", operating_point=0.5)


def states(ledger: Ledger) -> dict[str, str]:
    """State by "name version"."""
    with ledger.read() as session:
        return {f"{row.name} {row.version}": row.state for row in session.scalars(select(Bundle))}


def small_bundle(folder: Path, version: str, name: str = "small") -> Path:
    """The shipped bundle's manifest with a weight of a few bytes: the registry opens no weights."""
    folder.mkdir(parents=True)
    manifest = read_manifest(SHIPPED).model_copy(update={"name": name, "version": version})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    (folder / "heads").mkdir()
    (folder / "heads" / "glori.safetensors").write_bytes(version.encode() * 100)
    return folder


def image(session: Session, pixels: str, view: str = "PA", age: float | None = 50.0, due: bool = True) -> Instance:
    """A chest radiograph in a study of its own."""
    study = Study(study_instance_uid=f"1.{pixels}", first_received_at=now(), last_received_at=now(), changed_at=now())
    study.result_due_at = now() if due else None
    series = Series(study=study, series_instance_uid=f"2.{pixels}")
    digests = {"file_sha256": pixels, "dataset_digest": pixels, "pixel_digest": pixels, "header_digest": pixels}
    instance = Instance(series=series, sop_instance_uid=f"3.{pixels}", sop_class_uid="1", transfer_syntax_uid="1")
    for column, value in digests.items():
        setattr(instance, column, value)
    instance.received_at, instance.view, instance.age_years = now(), view, age
    instance.selected, instance.route_reason, instance.route_explanation = True, "selected", "A chest radiograph."
    session.add(instance)
    return instance


def inference(pixels: str, digest: str, state: WorkState = WorkState.DUE, **values: object) -> Inference:
    return Inference(
        pixel_digest=pixels,
        bundle_digest=digest,
        file_sha256=pixels,
        state=state,
        due_at=now(),
        created_at=now(),
        **values,
    )


def queued(ledger: Ledger) -> dict[str, list[tuple[str, str]]]:
    """(bundle digest, state) of the analyses of each image."""
    with ledger.read() as session:
        found: dict[str, list[tuple[str, str]]] = {}
        for row in session.scalars(select(Inference).order_by(Inference.id)):
            found.setdefault(row.pixel_digest, []).append((row.bundle_digest, row.state))
    return found


def test_the_shipped_bundle_is_active_from_the_first_start_on(ledger: Ledger, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for _ in range(2):
        provide_shipped(ledger, settings)
    with ledger.read() as session:
        (bundle,) = active_bundles(session)
    assert bundle.digest == bundle_digest(SHIPPED) == bundle_digest(bundle_path(tmp_path, bundle.digest))
    assert bundle.manifest == read_manifest(SHIPPED)


def test_a_newer_shipped_bundle_replaces_an_active_shipped_one_once_and_never_an_operators(
    ledger: Ledger, tmp_path: Path
) -> None:
    name, version = read_manifest(SHIPPED).name, read_manifest(SHIPPED).version
    old = activated(ledger, name, "0")
    ledger.write(lambda session: session.execute(update(Bundle).values(shipped=True)))
    provide_shipped(ledger, Settings(home=tmp_path))
    assert states(ledger) == {f"{name} 0": "retired", f"{name} {version}": "active"}
    ledger.write(lambda session: activate(session, old))  # an operator goes back
    provide_shipped(ledger, Settings(home=tmp_path))
    assert states(ledger) == {f"{name} 0": "active", f"{name} {version}": "retired"}


@pytest.mark.parametrize("theirs", [read_manifest(SHIPPED).name, "other"])
def test_a_bundle_that_an_operator_chose_stays(ledger: Ledger, tmp_path: Path, theirs: str) -> None:
    activated(ledger, theirs, "7")
    provide_shipped(ledger, Settings(home=tmp_path))
    shipped = f"{read_manifest(SHIPPED).name} {read_manifest(SHIPPED).version}"
    assert states(ledger) == {f"{theirs} 7": "active", shipped: "candidate"}


def test_a_retired_shipped_bundle_does_not_come_back_by_itself(ledger: Ledger, tmp_path: Path) -> None:
    provide_shipped(ledger, Settings(home=tmp_path))
    retired(ledger, read_manifest(SHIPPED).name)
    provide_shipped(ledger, Settings(home=tmp_path))
    assert set(states(ledger).values()) == {"retired"}


def test_one_version_of_a_name_is_active_and_other_names_stay(ledger: Ledger) -> None:
    activated(ledger, "tubes", "1")
    activated(ledger, "findings", "1")
    second = activated(ledger, "tubes", "2")
    assert states(ledger) == {"tubes 1": "retired", "findings 1": "active", "tubes 2": "active"}
    with ledger.read() as session:
        assert find_bundle(session, "tubes").digest == second
        assert before(session, "tubes").version == "1"
        with pytest.raises(BundleStateError, match="nothing to go back to"):
            before(session, "findings")
        with pytest.raises(BundleNotFoundError, match="no name in"):
            before(session, "nobody")


def test_a_rollback_goes_to_what_was_active_before_and_back_again(ledger: Ledger) -> None:
    for version in ("1", "2", "3"):
        activated(ledger, "tubes", version)
    registered(ledger, "tubes", "4")
    seen = []
    for _ in range(3):
        with ledger.read() as session:
            earlier = before(session, "tubes")
        seen.append(earlier.version)
        ledger.write(lambda session, digest=earlier.digest: activate(session, digest))  # type: ignore[misc]
    assert seen == ["2", "3", "2"]


def test_a_bundle_is_found_by_name_and_by_the_beginning_of_its_digest(ledger: Ledger) -> None:
    digest = registered(ledger, "tubes")
    with ledger.read() as session:
        assert find_bundle(session, digest[:8].upper()).name == "tubes"
        assert manifest_of(session, digest).name == "tubes"
        for wanted in (digest[:3], "nothing", "f" * 64, "tu%es"):
            with pytest.raises(BundleNotFoundError, match="at least 6 characters"):
                find_bundle(session, wanted)
        with pytest.raises(BundleNotFoundError):
            manifest_of(session, "f" * 64)


@pytest.mark.parametrize(
    ("heads", "said"),
    [([], "no head"), ([LinearHead(file="heads/linear.safetensors", classes=[NAMELESS])], "no class that results")],
)
def test_a_bundle_whose_results_would_say_nothing_is_refused_and_the_old_one_goes_on(
    ledger: Ledger, heads: list[LinearHead], said: str
) -> None:
    activated(ledger, "tubes", "1")
    digest = registered(ledger, "tubes", "2")

    def behead(session: Session) -> None:
        bare = manifest_of(session, digest).model_copy(update={"heads": heads})
        session.execute(update(Bundle).where(Bundle.digest == digest).values(manifest=bare.model_dump_json()))

    ledger.write(behead)
    with pytest.raises(BundleError, match=said):
        ledger.write(lambda session: activate(session, digest))
    assert states(ledger) == {"tubes 1": "active", "tubes 2": "candidate"}


def test_the_command_keeps_nothing_of_a_bundle_that_would_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path / "home"))
    bare = small_bundle(tmp_path / "bare", "1")
    (bare / "manifest.json").write_text(read_manifest(bare).model_copy(update={"heads": []}).model_dump_json())
    with pytest.raises(BundleError, match="import it with a head"):
        CliRunner().invoke(chexnode, ["bundle", "activate", str(bare)], catch_exceptions=False)
    listed = CliRunner().invoke(chexnode, ["bundle", "list", "--json"], catch_exceptions=False)
    assert json.loads(listed.stdout) == []


def test_the_list_fits_a_window_of_80_characters_and_json_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    settings = load_settings()
    ledger = open_ledger(settings)
    upgrade(ledger)
    digest = activated(ledger, "a-name-that-is-as-long-as-it-may", "1.2.3+rehead")
    ledger.close()
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        listed = CliRunner().invoke(chexnode, ["bundle", "list"], catch_exceptions=False).stdout
        assert digest[:12] in listed and "active" in listed and "\N{HORIZONTAL ELLIPSIS}" not in listed
    (row,) = json.loads(CliRunner().invoke(chexnode, ["bundle", "list", "--json"], catch_exceptions=False).stdout)
    assert (row["digest"], row["state"], row["cleared_for_clinical_use"]) == (digest, "active", False)


def test_a_damaged_manifest_and_a_folder_of_weights_say_what_to_do(tmp_path: Path) -> None:
    damaged = small_bundle(tmp_path / "damaged", "1")
    (damaged / "manifest.json").write_text('{"format": 1, "name": "X"}')
    with pytest.raises(BundleError, match=r"name: .*and \d+ more.*Fetch the bundle again") as refused:
        read_manifest(damaged)
    assert "pydantic" not in str(refused.value)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "teacher_checkpoint.pth").write_bytes(b"")
    with pytest.raises(BundleError, match="chexnode bundle import"):
        read_manifest(tmp_path / "weights")


def test_a_manifest_of_another_version_of_the_software_stops_nobody(ledger: Ledger) -> None:
    activated(ledger, "tubes")
    future = activated(ledger, "findings")
    ledger.write(
        lambda session: session.execute(update(Bundle).where(Bundle.digest == future).values(manifest='{"format": 99}'))
    )
    with ledger.read() as session:
        assert [each.manifest.name for each in active_bundles(session)] == ["tubes"]
        with pytest.raises(BundleError, match="not of this version"):
            manifest_of(session, future)


def test_what_is_due_goes_over_and_what_is_held_or_done_stays(ledger: Ledger) -> None:
    old = activated(ledger, "tubes", "1")
    other = activated(ledger, "findings", "1")
    new = registered(ledger, "tubes", "2", Population(minimum_age_years=18, view_positions=["PA"]))

    def arrange(session: Session) -> None:
        for pixels in ("due", "failing", "held", "done", "known"):
            image(session, pixels)
        image(session, "wrong-view", view="AP")
        image(session, "wrong-age", age=3.0)
        for pixels in ("due", "known", "wrong-view", "wrong-age", "no-image"):
            session.add(inference(pixels, old))
        session.add(inference("failing", old, attempts=3, error="It failed."))
        session.add(inference("held", old, WorkState.LEASED, lease_token="t", lease_expires_at=now() + 60))
        session.add(inference("done", old, WorkState.DONE))
        session.add(inference("known", new, WorkState.DONE))
        session.add(inference("due", other))

    ledger.write(arrange)
    ledger.write(lambda session: activate(session, new))
    assert queued(ledger) == {
        "due": [(new, "due"), (other, "due")],
        "failing": [(new, "due")],
        "held": [(old, "leased")],
        "done": [(old, "done")],
        "known": [(new, "done")],
    }
    with ledger.read() as session:
        failing = session.scalars(select(Inference).where(Inference.pixel_digest == "failing")).one()
    assert (failing.attempts, failing.error) == (0, "")


def test_what_a_dead_worker_held_goes_over_when_its_lease_runs_out(ledger: Ledger) -> None:
    old = activated(ledger, "tubes", "1")

    def arrange(session: Session) -> None:
        image(session, "a")
        session.add(inference("a", old, WorkState.LEASED, lease_token="t", lease_expires_at=now() + 3600))

    ledger.write(arrange)
    new = activated(ledger, "tubes", "2")
    with ledger.read() as session:
        assert not has_orphans(session)
    ledger.write(lambda session: session.execute(update(Inference).values(lease_expires_at=now() - 1)))
    with ledger.read() as session:
        assert has_orphans(session)
    assert ledger.write(hand_over) == 1
    assert queued(ledger) == {"a": [(new, "due")]}


def test_a_retry_of_an_image_that_a_result_names_leaves_the_result_alone_and_analyses_it_anew(ledger: Ledger) -> None:
    old = activated(ledger, "tubes", "1")

    def arrange(session: Session) -> None:
        shown = image(session, "a", due=False)
        row = inference("a", old, WorkState.FAILED)
        session.add(row)
        session.flush()
        result = Result(
            study_id=shown.series.study.id,
            bundle_digest=old,
            bundle_name="tubes",
            version=1,
            due_at=now(),
            created_at=now(),
        )
        result.images.append(ResultImage(instance_id=shown.id, inference_id=row.id, file_sha256="a"))
        session.add(result)

    ledger.write(arrange)
    activated(ledger, "tubes", "2")
    ledger.write(lambda session: session.execute(update(Inference).values(state=WorkState.DUE)))  # chexnode db retry
    ledger.write(hand_over)
    assert queued(ledger) == {"a": [(old, "failed")]}
    with ledger.read() as session:
        assert session.scalars(select(Study.result_due_at)).one() is not None


def test_results_of_a_bundle_that_nobody_knows_are_given_up_and_the_study_is_analysed_anew(ledger: Ledger) -> None:
    activated(ledger, "tubes")

    def arrange(session: Session) -> None:
        shown = image(session, "a", due=False)
        session.flush()
        session.add(
            Result(
                study_id=shown.series.study.id,
                bundle_digest="before the registry",
                bundle_name="tubes",
                version=1,
                due_at=now(),
                created_at=now(),
            )
        )

    ledger.write(arrange)
    ledger.write(hand_over)
    with ledger.read() as session:
        result = session.scalars(select(Result)).one()
        assert (result.state, "not in the registry" in result.error) == (WorkState.FAILED, True)
        assert session.scalars(select(Study.result_due_at)).one() is not None


def test_two_operators_at_the_same_time_leave_one_version_active(ledger: Ledger) -> None:
    activated(ledger, "tubes", "0")
    digests = [registered(ledger, "tubes", str(number)) for number in range(1, 5)]
    together = threading.Barrier(len(digests))
    errors: list[Exception] = []

    def operate(digest: str) -> None:
        own = Ledger(ledger.url)
        together.wait()
        try:
            for _ in range(5):
                own.write(lambda session: activate(session, digest))
        except Exception as error:  # noqa: BLE001 - handed to the assertion
            errors.append(error)
        own.close()

    threads = [threading.Thread(target=operate, args=(digest,)) for digest in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(states(ledger).values()) == ["active", *["retired"] * 4]


def test_the_files_are_kept_whole_and_a_damaged_copy_is_mended(tmp_path: Path) -> None:
    source = small_bundle(tmp_path / "source", "1")
    digest = keep_files(tmp_path / "home", source)
    kept = bundle_path(tmp_path / "home", digest)
    assert digest == bundle_digest(source) == bundle_digest(kept)
    # As a disk does, not as somebody who writes into a file that two folders share.
    (kept / "heads" / "glori.safetensors").unlink()
    assert keep_files(tmp_path / "home", source) == digest
    assert bundle_digest(kept) == digest
    shutil.rmtree(source)
    assert bundle_digest(kept) == digest


def test_the_tuning_goes_with_the_bundle_unless_it_was_tuned_anew_since(tmp_path: Path) -> None:
    source = small_bundle(tmp_path / "source", "1")
    (tmp_path / "source.tuning.json").write_text("first")
    digest = keep_files(tmp_path / "home", source)
    kept = tmp_path / "home" / "bundles" / f"{digest}.tuning.json"
    assert kept.read_text() == "first"
    kept.write_text("tuned where it lies")
    keep_files(tmp_path / "home", source)
    assert kept.read_text() == "tuned where it lies"


def test_what_is_no_bundle_is_not_registered(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"):
        register(ledger, tmp_path / "home", tmp_path)
    assert states(ledger) == {}


_OPERATE = """
import sys, pathlib
from node.bundles.activation import activate, register
from node.ledger.ledger import Ledger
ledger, home, *folders = Ledger(sys.argv[1]), pathlib.Path(sys.argv[2]), *map(pathlib.Path, sys.argv[3:])
for number, folder in enumerate(folders):
    digest = register(ledger, home, folder)
    ledger.write(lambda session: activate(session, digest))
    print(number, flush=True)
"""


def activations(operator: Running) -> int:
    return sum(line.isdigit() for line in operator.output.splitlines())


def test_a_kill_at_any_moment_leaves_a_usable_registry(ledger: Ledger, tmp_path: Path) -> None:
    home = tmp_path / "home"
    folders = [small_bundle(tmp_path / str(number), str(number)) for number in range(40)]
    for kill_after in (1, 5, 11):
        operator = Running(
            [sys.executable, "-c", _OPERATE, ledger.url, home, *folders], tmp_path / f"operator-{kill_after}.log"
        )
        # Numbers come after the commit, the log's lines before it.
        wait_for("it activates", lambda o=operator, n=kill_after: activations(o) >= n or not o.alive)  # type: ignore[misc]
        operator.process.send_signal(signal.SIGKILL)
        operator.process.wait()
        with ledger.read() as session:
            rows = session.scalars(select(Bundle)).all()
        assert sum(row.state == BundleState.ACTIVE for row in rows) == 1
        for row in rows:
            assert bundle_digest(bundle_path(home, row.digest)) == row.digest
    last = register(ledger, home, folders[-1])
    ledger.write(lambda session: activate(session, last))
    with ledger.read() as session:
        assert [each.digest for each in active_bundles(session)] == [last]


def test_who_retires_what_is_not_active_is_told_so(ledger: Ledger) -> None:
    registered(ledger, "tubes")
    with pytest.raises(BundleStateError, match="No version of tubes is active"):
        ledger.write(lambda session: retire(session, "tubes"))
    with pytest.raises(BundleNotFoundError, match="nobody is no name"):
        ledger.write(lambda session: retire(session, "nobody"))


def test_the_list_shows_a_bundle_of_another_version_of_the_software_and_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXNODE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    ledger = open_ledger(load_settings())
    upgrade(ledger)
    digest = registered(ledger, "newer")
    changed = update(Bundle).where(Bundle.digest == digest).values(manifest='{"format": 2}', source="/data/[/models]")
    ledger.write(lambda session: session.execute(changed))
    ledger.close()
    listed = CliRunner().invoke(chexnode, ["bundle", "list"])
    assert listed.exit_code == 0, listed.exception
    assert "for another version of the software" in listed.output and "/data/[/models]" in listed.output
