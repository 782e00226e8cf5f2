"""`chexnode bundle tune`: find the fastest engine for this host's devices and keep the choice beside the bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from schemas.tuning import DeviceTuning
    from workers.preparation import Prepared
    from workers.tuning import Tuner


def _device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pydantic import ValidationError

    from schemas.settings import WorkerSettings

    try:
        return value and WorkerSettings(device=value).device
    except ValidationError as error:
        raise click.BadParameter('say "cpu", "cuda:0", "cuda:0,cuda:1" or "auto"') from error


@click.command("tune")
@click.argument("bundle", required=False)
@click.option("--device", callback=_device, help='"cpu", "cuda:N" or "auto"; default: worker.device of the settings.')
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    help="DICOM radiographs to compare outputs on; default: the bundle's self-test and variations of it.",
)
def tune_command(bundle: str | None, device: str | None, images: Path | None) -> None:
    """Measure every engine that is installed and choose the fastest one that keeps the accuracy.

    BUNDLE is a folder, or a name or the beginning of a digest of chexnode bundle list; by default the shipped one.
    Workers use the choice, which is kept beside the folder, from their next start on:
    stop and start chexnode worker, or chexnode up.
    """
    from rich.console import Console
    from rich.progress import Progress

    import workers.engine_preload  # sets torch's threads as in an engine process
    from node.bundles.files import bundle_path
    from schemas.bundle import bundle_digest, read_manifest
    from schemas.codes import Landmark
    from schemas.errors import BundleError
    from schemas.settings import load_settings
    from schemas.tuning import Tuning, read_tuning, write_tuning
    from workers.backends.choice import device_name
    from workers.backends.converted import forget_converted
    from workers.devices import choose_devices
    from workers.registry_commands import named_folder
    from workers.tuning import Tuner, selftest_images

    assert workers.engine_preload
    console = Console()
    settings = load_settings()
    folder = named_folder(bundle)
    digest = bundle_digest(folder)
    try:
        tuning = read_tuning(folder)
    except BundleError:  # it is written anew
        tuning = None
    if tuning is None or tuning.bundle_digest != digest:
        tuning = Tuning(bundle_digest=digest, devices=[])
    # One of each model: its like will do the same.
    devices = {device_name(each): each for each in choose_devices(device or settings.worker.device)}
    manifest = read_manifest(folder)
    # Without any threshold or landmark there is nothing that could come out otherwise.
    decides = any(scored.operating_point is not None for scored in manifest.classes) or any(
        isinstance(channel, Landmark) for channel in manifest.channels
    )
    with Progress(console=console, transient=True) as progress:
        placed = selftest_images(folder) if images is None else _placed(images, folder, progress)
        for each in devices.values():
            tuned = _tune(Tuner(folder, each, placed, settings.worker), each, len(placed), progress)
            tuning = tuning.with_device(tuned)
            _print(tuned, decides, console)
    path = write_tuning(folder, tuning)
    forget_converted(folder, {each.choice.name for each in tuning.devices})
    served = bundle_path(settings.home, digest)
    if served.is_dir():  # the node's own copy, which is what its workers load
        path = write_tuning(served, tuning)
    console.print(
        f"kept in {path}; workers use it from their next start on: stop and start chexnode worker, or chexnode up",
        soft_wrap=True,
    )


def _tune(tuner: "Tuner", device: str, images: int, progress: "Progress") -> "DeviceTuning":
    from workers.tuning import candidates

    tried = candidates(device)
    task = progress.add_task(f"tuning {device}", total=len(tried) * images)
    measured = []
    for number, candidate in enumerate(tried):
        progress.update(task, description=f"{device}: {candidate.engine}", completed=number * images)
        if candidate.missing:
            progress.console.print(f"[yellow]{candidate.engine}: {candidate.missing}[/]")
            continue
        try:
            measured.append(tuner.measure(candidate.engine, lambda: progress.advance(task)))
        except Exception as error:
            if not measured:  # the reference itself
                raise
            reason = str(error).strip().split("\n")[0]
            progress.console.print(f"[yellow]{candidate.engine} does not compute this bundle: {reason}[/]")
    return tuner.choose(measured)


def _placed(files: Path, bundle: Path, progress: "Progress") -> "list[Prepared]":
    from node.files import expand
    from schemas.bundle import read_manifest
    from schemas.errors import ChexnodeError, UnsupportedImageError
    from workers.preparation import Prepared, Wanted, prepare

    wanted = Wanted.by(read_manifest(bundle))
    placed: list[Prepared] = []
    for path in progress.track(expand([files]), description="reading images"):
        try:
            placed += prepare(path, [wanted])
        except ChexnodeError as error:
            progress.console.print(f"[yellow]{path.name} is left out: {error}[/]")
    if not placed:
        raise UnsupportedImageError(f"{files} holds no image that can be read; leave --images out to do without.")
    return placed


def _print(tuned: "DeviceTuning", decides: bool, console: "Console") -> None:
    from rich.table import Table

    reference = tuned.measured[0].milliseconds_per_image
    title = f"{tuned.device}: {tuned.images} images, differences from {tuned.measured[0].engine}"
    # All differences are in the record; a refusal names the one that decided.
    table = Table("engine", "ms/image", "speed", "score", "decisions", "verdict", title=title)
    for each in tuned.measured:
        chosen = each.engine == tuned.choice
        table.add_row(
            str(each.engine),
            f"{each.milliseconds_per_image:.1f}",
            f"{reference / each.milliseconds_per_image:.2f}x",
            f"{each.score_difference:.2g}",
            f"{each.flipped_decisions:.2%}" if decides else "-",
            "[bold green]chosen[/]" if chosen else f"[yellow]{each.refused}[/]" if each.refused else "slower",
        )
    console.print(table)
