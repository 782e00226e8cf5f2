"""`chexnode bundle import`: published weights to a bundle, with one sub-command per system."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


def _weights_option(help_text: str) -> Callable[[_Command], _Command]:
    return click.option("--backbone", required=True, type=_file, help=help_text)


def _bundle_options(command: _Command) -> _Command:
    """Options that every system has; they come to the command as `options`."""
    for option in reversed(
        [
            click.option(
                "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
            ),
            click.option("--force", is_flag=True, help="Replace the bundle that --out already is."),
            click.option("--name", help="Name of the bundle; by default the system's."),
            click.option("--version", "version", default="1", show_default=True, help="Version of the bundle."),
            click.option("--classes", help="Classes in the order of the head's outputs: a,b,c or a file of lines."),
            click.option("--operating-points", type=_file, help='JSON: {"class": threshold or null}.'),
            click.option(
                "--fit",
                type=click.Choice(["letterbox", "published"]),
                help="How a film comes into the square; default: published, or letterbox with a tube among the classes",
            ),
            click.option("--size", type=click.IntRange(32, 2048), help="Input in pixels; default: as it was trained."),
            click.option("--attention-heads", type=click.IntRange(1), help="When neither shapes nor --config tell."),
            click.option("--licence", help="Licence of the weights; default: what their source states."),
            click.option("--minimum-age", type=click.IntRange(0, 120), default=18, show_default=True, help="Years."),
            click.option(
                "--view",
                "views",
                multiple=True,
                type=click.Choice(["PA", "AP"]),
                default=["PA", "AP"],
                show_default=True,
                help="View positions that it is for.",
            ),
        ]
    ):
        command = option(command)
    return command


@click.group("import")
def import_group() -> None:
    """Make a bundle from published weights.

    Every tensor of the files is accounted for: a missing, unknown or misshapen one is an error that names it. Files
    are read without running anything that is in them.
    """


@import_group.command("chexfound")
@_weights_option("teacher_checkpoint.pth, model_checkpoint.pth or model.safetensors.")
@click.option("--head", type=_file, help="glori.pth; without it the bundle is a backbone only.")
@click.option("--head-results", type=_file, help="results_eval_linear.json, which names the best head of the file.")
@click.option("--head-name", help="Name of the head in the file, instead of --head-results.")
@click.option(
    "--config",
    type=_file,
    help="config.yaml; default: the one beside the weights, if shapes do not tell all.",
)
@_bundle_options
def chexfound_command(
    backbone: Path,
    head: Path | None,
    head_results: Path | None,
    head_name: str | None,
    config: Path | None,
    attention_heads: int | None,
    **options: Any,
) -> None:
    """CheXFound: ViT-L/16 with GLoRI heads."""
    from schemas.errors import BundleMakingError
    from workers.checkpoints.chexfound import read_backbone, read_head
    from workers.checkpoints.chexfound_config import read_config
    from workers.checkpoints.import_run import ImportRun
    from workers.checkpoints.recognise import GLORI_HEAD
    from workers.checkpoints.systems import CHEXFOUND

    if head is None and (head_results or head_name):
        raise BundleMakingError("--head-results and --head-name choose a head of the file that --head gives.")
    with ImportRun(CHEXFOUND, options) as run:
        configured = read_config(config) if config else None
        weights = read_backbone(backbone, configured, attention_heads, run.reading(backbone))
        glori = read_head(head, weights, head_name, head_results, run.reading(head, GLORI_HEAD)) if head else None
        run.write(weights, glori)


@import_group.command("chess")
@_weights_option("The *.pth.tar of MoCo, or the encoder alone (mi2rl-chess-resnet.pth).")
@_bundle_options
def chess_command(backbone: Path, attention_heads: int | None, **options: Any) -> None:
    """CheSS: ResNet-50 for one channel; a backbone only."""
    from schemas.errors import BundleMakingError
    from workers.checkpoints.chess import read_backbone
    from workers.checkpoints.import_run import ImportRun
    from workers.checkpoints.systems import CHESS

    if attention_heads:
        raise BundleMakingError("A ResNet has no attention heads: leave --attention-heads out.")
    with ImportRun(CHESS, options) as run:
        run.write(read_backbone(backbone, run.reading(backbone)), None)


@import_group.command("mae")
@_weights_option("Checkpoint of a masked autoencoder, pre-trained or fine-tuned.")
@_bundle_options
def mae_command(backbone: Path, attention_heads: int | None, **options: Any) -> None:
    """Masked autoencoders (ViT), with their linear head when fine-tuned. Unproven."""
    from workers.checkpoints.import_run import ImportRun
    from workers.checkpoints.mae import read_mae
    from workers.checkpoints.systems import MAE

    with ImportRun(MAE, options) as run:
        weights = read_mae(backbone, attention_heads, run.reading(backbone))
        run.write(weights.backbone, weights.head)


@import_group.command("gmml")
@_weights_option("checkpoint.pth of GMML or SiT.")
@_bundle_options
def gmml_command(backbone: Path, attention_heads: int | None, **options: Any) -> None:
    """GMML and SiT (ViT); a backbone only. Unproven."""
    from workers.checkpoints.gmml import read_backbone
    from workers.checkpoints.import_run import ImportRun
    from workers.checkpoints.systems import GMML

    with ImportRun(GMML, options) as run:
        run.write(read_backbone(backbone, attention_heads, run.reading(backbone)), None)
