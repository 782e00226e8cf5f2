"""`chexnode analyze`: the node's own code without the network and without a ledger, a file at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from pydicom.uid import generate_uid
from rich.console import Console
from rich.progress import track
from rich.table import Table

from node.files import expand
from node.intake.received import read_received
from node.intake.routing import RoutedBundle, route
from node.monitoring.logs import configure_logs
from node.results.foremost import enumerated, ranked, tubes_first
from node.results.score_words import score_number
from node.results.tube_words import position_words, short_name
from schemas.bundle import Manifest, bundle_folder, read_manifest
from schemas.errors import ChexnodeError, EngineError
from schemas.identity import software_version
from schemas.result import EngineReference, StudyResult
from schemas.settings import ResultObject, load_settings
from workers.assembly import AssemblyRequest, ImageRequest, assemble
from workers.devices import choose_devices
from workers.engine import Engine
from workers.preparation import Wanted, prepare
from workers.processes import Processes
from workers.results.source import ImageIdentity, ReportIdentity, keys_of

_SUFFIX = {ResultObject.SEGMENTATION: ".seg.dcm", ResultObject.REPORT: ".sr.dcm"}


class SetAsideError(ChexnodeError):
    """Routing sets this image aside."""


@dataclass(frozen=True)
class _Row:
    path: Path
    outcome: str
    analysed: bool


class Analyzer:
    """Engine and processes for any number of files.

    Parameters
    ----------
    bundle
        Folder of a bundle; None: the shipped one. Raises BundleError when its results could say nothing.
    """

    def __init__(self, bundle: Path | None = None) -> None:
        settings = load_settings()
        folder = bundle_folder(bundle)
        self._manifest = read_manifest(folder)
        self._manifest.check_says_something()
        self._geometry = settings.results.segmentation_geometry
        self._engine = Engine(folder, self._manifest, choose_devices(settings.worker.device), settings.worker)
        self._processes = Processes(1, settings.worker.process_deadline_seconds)

    def __enter__(self) -> "Analyzer":
        try:
            self._engine.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
        self._processes.close()

    def analyze(self, path: Path, out: Path) -> StudyResult:
        """Analyse the Part 10 file at `path` and write SR, SEG, result JSON and overlay PNG into `out`.

        Raises ChexnodeError with the reason when the file cannot be analysed.
        """
        received = read_received(path)
        bundle = RoutedBundle("", self._manifest.name, self._manifest.population)
        decision = route(received.header, [bundle], has_pixel_data=received.has_pixel_data)
        if not decision.selected:
            raise SetAsideError(decision.explanation)
        (placed,) = self._processes.call(prepare, path, [Wanted.by(self._manifest)])
        computed = self._engine.run(placed.pixels, detail=placed.detail)
        identity = _new_identity(self._manifest)
        image = ImageRequest(path, received.sop_instance_uid, computed.output.to_bytes(), identity)
        request = AssemblyRequest(
            study_instance_uid=received.study_instance_uid,
            version=1,
            manifest=self._manifest,
            bundle_digest=computed.by.bundle_digest,
            engine=EngineReference(
                name=computed.by.name,
                device=computed.by.device,
                precision=computed.by.precision,
                software_version=software_version(),
            ),
            images=[image],
            failed=[],
            report=ReportIdentity(generate_uid(prefix=None), generate_uid(prefix=None)),
            content_time=datetime.now(UTC).replace(microsecond=0),
            geometry=self._geometry,
            overlay_png=True,
        )
        assembly = self._processes.call(assemble, request)
        for built in assembly.objects:
            _write(out / f"{received.sop_instance_uid}{_SUFFIX[built.kind]}", built.content)
        _write(out / f"{received.sop_instance_uid}.overlay.png", assembly.overlays[received.sop_instance_uid])
        # Last: who waits for the JSON finds the rest.
        _write(out / f"{received.sop_instance_uid}.json", assembly.document.model_dump_json(indent=2).encode())
        return assembly.document


@click.command("analyze")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a model bundle. [default: the shipped one]",
)
def analyze_command(files: tuple[Path, ...], out: Path, bundle: Path | None) -> None:
    """Analyse DICOM FILES (folders are searched) and write for each its SR, SEG, result JSON and overlay PNG.

    Files that cannot be analysed are named with the reason. Status 1 only when none could be.
    """
    console = Console()
    configure_logs()
    every = expand(files)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with Analyzer(bundle) as analyzer:
        for path in track(every, "analysing", console=console, transient=True, disable=len(every) < 2):
            try:
                rows.append(_Row(path, describe(analyzer.analyze(path, out)), True))
            except EngineError:
                raise
            except ChexnodeError as error:
                rows.append(_Row(path, str(error), False))
    table = Table("file", "result")
    for row in rows:
        table.add_row(row.path.name, row.outcome if row.analysed else f"[yellow]{row.outcome}[/]")
    console.print(table)
    analysed = sum(row.analysed for row in rows)
    console.print(f"{analysed} of {len(rows)} analysed; results in {out}")
    if not analysed:
        raise click.exceptions.Exit(1)


def _new_identity(manifest: Manifest) -> ImageIdentity:
    return ImageIdentity(
        segmentation_sop_instance_uid=generate_uid(prefix=None),
        segmentation_series_instance_uid=generate_uid(prefix=None),
        secondary_capture_sop_instance_uid=generate_uid(prefix=None),
        secondary_capture_series_instance_uid=generate_uid(prefix=None),
        tracking_uids={key: generate_uid(prefix=None) for key in keys_of(manifest)},
    )


def describe(document: StudyResult) -> str:
    findings = ranked(finding for image in document.images for finding in image.findings)
    refused = [f"not analysed: {image.refused}" for image in document.images if image.refused]
    if refused and len(refused) == len(document.images):
        return f"{enumerated(refused)}; urgency {document.urgency}. {_notices(document)}".strip()
    tubes = [
        f"{short_name(tube.device)} {position_words(tube)}"
        for image in document.images
        for tube in tubes_first(image.tubes)
        if tube.present
    ]
    present = [finding.finding.code.meaning for finding in findings if finding.present]
    said = enumerated([*refused, *tubes, *present]) or "nothing above its operating point"
    if undetermined := enumerated(
        f"{finding.finding.code.meaning.lower()} ({score_number(finding)})"
        for finding in findings
        if finding.present is None
    ):
        said += f"; undetermined: {undetermined}"
    return f"{said}; urgency {document.urgency}. {_notices(document)}".strip()


def _notices(document: StudyResult) -> str:
    return ". ".join(each.rstrip(".") for each in (document.notice, document.bundle.unproven) if each)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)
