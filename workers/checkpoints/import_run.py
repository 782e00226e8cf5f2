"""One run of `chexnode bundle import`: protects what is there, shows progress, tells what was done."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from schemas.bundle import MANIFEST_FILE
from schemas.errors import BundleMakingError
from workers.bundle import LoadedBundle
from workers.checkpoints.classes import class_names, default_names, read_operating_points
from workers.checkpoints.importing import ImportOptions, import_bundle
from workers.checkpoints.reading import ReadProgress
from workers.checkpoints.recognise import mistaken_for
from workers.checkpoints.systems import System
from workers.checkpoints.weights import BackboneWeights, HeadWeights


class ImportRun:
    """Context of an import; `options` are those that all systems share (import_command.py).

    Raises BundleMakingError at once when the options cannot be carried out.
    """

    def __init__(self, system: System, options: dict[str, Any]) -> None:
        self._system = system
        #: The file that is being read, and what it should be.
        self._read: tuple[Path, str] | None = None
        self._out: Path = options["out"]
        check_target(self._out, options["force"])
        points = options["operating_points"]
        self._options = ImportOptions(
            name=options["name"] or system.name,
            version=options["version"],
            fit=options["fit"],
            size=options["size"],
            classes=class_names(options["classes"]) if options["classes"] else None,
            operating_points=read_operating_points(points) if points else {},
            minimum_age_years=options["minimum_age"],
            view_positions=tuple(dict.fromkeys(options["views"])),
            licence=options["licence"],
        )
        self._console = Console(soft_wrap=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            # In a file or pipe bars are only noise.
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        # The last one that was begun is the one that is wrong.
        if isinstance(error, BundleMakingError) and self._read and (said := mistaken_for(*self._read)):
            raise BundleMakingError(said) from error

    def reading(self, path: Path, kind: str = "") -> ReadProgress:
        """Shows how much of `path` has been read; `kind` is what it should be (recognise.py), by default a backbone."""
        self._read = path, kind or self._system.name
        task = self._progress.add_task(f"reading {escape(path.name)}", total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def write(self, backbone: BackboneWeights, head: HeadWeights | None) -> None:
        """Write the bundle and print what became of the files."""
        self._read = None
        task = self._progress.add_task("", total=None)
        bundle = import_bundle(
            self._out,
            self._system,
            backbone,
            head,
            self._options,
            lambda words: self._progress.update(task, description=words),
        )
        self._progress.update(task, description="done", total=1, completed=1)
        self._progress.stop()
        self._tell(backbone, head, bundle)

    def _tell(self, backbone: BackboneWeights, head: HeadWeights | None, bundle: LoadedBundle) -> None:
        values = sum(tensor.numel() for tensor in backbone.tensors.values())
        tell = self._console.print
        tell(f"read: backbone of {len(backbone.tensors)} tensors, {values:,} values")
        for source in backbone.sources[1:]:
            tell(f"read: {escape(source.name)}")
        if head is not None:
            named = f" ({escape(head.name)})" if head.name else ""
            tell(f"read: {head.kind} head of {len(head.tensors)} tensors for {head.classes} classes{named}")
            for source in head.sources[1:]:
                tell(f"read: {escape(source.name)}")
        for each in [*backbone.left_out, *(head.left_out if head else [])]:
            tell(f"left out: {each.why} ({each.count}, for example {escape(each.example)})")
        manifest = bundle.manifest
        preprocessing = manifest.preprocessing
        tell(f"input: {preprocessing.size} px, {preprocessing.channels} channel(s), fit {preprocessing.fit.value}")
        if head is not None:
            self._tell_classes(head, bundle)
        if manifest.unproven:
            tell(f"[bold]unproven:[/] {manifest.unproven}")
        tell(f"licence: {escape(manifest.licence)}")
        tell(f"written: {escape(str(bundle.folder))}: {manifest.name} {manifest.version}")
        tell(f"digest: {bundle.digest}")

    def _tell_classes(self, head: HeadWeights, bundle: LoadedBundle) -> None:
        tell = self._console.print
        if self._options.classes is None and default_names(head.classes)[0] == "class_00":
            tell(
                "note: the file does not say what its classes are, so no result will speak of them; "
                "import again with --classes to name them"
            )
        without = sum(scored.operating_point is None for scored in bundle.manifest.classes)
        if without:
            tell(
                f"note: {without} classes have no operating point and are undetermined; see --operating-points, or "
                "chexnode train calibrate with labels of your own"
            )


def check_target(out: Path, force: bool) -> None:
    """Raises BundleMakingError when something stands at `out` that must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_FILE).is_file():
        raise BundleMakingError(f"{out} exists and is no bundle: choose another --out.")
    if not force:
        raise BundleMakingError(f"{out} is a bundle already: choose another --out, or replace it with --force.")
