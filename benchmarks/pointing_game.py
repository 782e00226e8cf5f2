"""Whether GLoRI's attention points at what it answers for: `python -m benchmarks.pointing_game [--backbone PATH]`.

Trains a GLoRI head of version 1 and one of version 2 (our reading) on a frozen backbone's features of phantoms of the
training family, by image labels alone. Then, on phantoms of the frozen family that show a finding: does the maximum of
the class's attention (mean over the attention heads; none is chosen) lie in the finding's place, one patch of tolerance
included? Beside it, on the same images: the other classes' maxima, and a random point of the lungs (devices, heart and
fractures: of the film). All differences are paired, with 95 % bootstrap intervals by patient.

The shipped bundle's backbone was told where findings are while it learned (training/learning/losses.py), a pre-trained
one (--backbone runs/dinov2/1-128/trained.pt) never was: the two answer different questions.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import nn

from benchmarks.pointing import PLACED, ClassFigures, Game, difference, figures_of, peaks_of, play
from benchmarks.pointing_sheet import save_sheet
from schemas.bundle import Metric, bundle_folder
from schemas.errors import ChexnodeError, SettingsError
from schemas.preprocessing import Preprocessing
from training.examples.filling import Placing
from training.examples.mixture import Mixture, Part
from training.examples.phantoms import PhantomMaker, render_examples
from training.examples.store import DETAIL_CROP, Examples
from training.examples.targets import TARGETS
from training.phantom.render import code_digest
from training.phantom.truth import Family
from training.pretraining.checkpoint import read_trained
from training.pretraining.export import kept_backbone, recipe_of, seen_preprocessing, stage_of
from training.pretraining.store import Squares, Store, StoreDocument
from training.progress import training_progress
from training.protocols.features import CachedFeatures, cached_features
from training.protocols.grid import Labelled, best_of_grid
from training.protocols.heads import HeadKind, fresh_head
from workers.bundle import load_bundle
from workers.networks.features import Backbone

_HEADS: dict[str, HeadKind] = {"v1": "glori", "v2": "glori_pyramid"}
#: Seeds that no recipe learns from.
_TRAINING_SEED, _TEST_SEED = 8_000_000, 8_500_000
#: Of the phantoms that heads are trained with, those that choose the rate.
_VALIDATION = 0.2
#: Of `grid.RATES` those that so short a training of such a head chooses; on many patches each of them costs minutes.
_RATES = (5e-4, 1e-3, 2e-3)
_BATCH, _ASKED_AT_ONCE = 32, 64


@dataclass(frozen=True, eq=False)
class Frozen:
    """A backbone that does not learn any more."""

    name: str
    backbone: Backbone
    preprocessing: Preprocessing


@dataclass(frozen=True, eq=False)
class Seen:
    """Phantoms, and what the backbone makes of them."""

    examples: Examples
    features: CachedFeatures


@dataclass(frozen=True)
class GameSettings:
    """How long heads learn, and what counts as a hit."""

    steps: int
    #: In patches.
    tolerance: float


class HeadFigures(BaseModel):
    """One head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    rate: float
    #: Macro AUROC on the phantoms that chose the rate.
    validation: float
    classes: list[ClassFigures]


class PointingGame(BaseModel):
    """pointing_game.json"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    #: Phantoms that heads are trained on and that choose their rate, and of the frozen family.
    training: int
    validation: int
    test: int
    steps: int
    #: Pixels of the model's input, of so many on a side.
    tolerance: float
    size: int
    heads: list[HeadFigures]
    #: Hits of version 2 less those of version 1, on the same images, mean over the classes.
    v2_over_v1: Metric


def main() -> None:
    """Train, play, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backbone", type=Path, help="a bundle's folder or a trained.pt; by default the shipped bundle"
    )
    parser.add_argument(
        "--training", type=int, default=1000, help="phantoms to train heads with, a fifth chooses rates"
    )
    parser.add_argument("--test", type=int, default=800, help="phantoms of the frozen family")
    parser.add_argument("--steps", type=int, default=250, help="of the training of each head")
    parser.add_argument("--tolerance", type=float, default=1.0, help="patches that a hit may lie beside the place")
    parser.add_argument(
        "--out", type=Path, default=Path("pointing-game"), help="JSON, pictures; phantoms are kept there"
    )
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    makers = {
        PhantomMaker(_TRAINING_SEED): given.training,
        PhantomMaker(_TEST_SEED, Family.FROZEN): given.test,
    }
    try:
        frozen = read_backbone(given.backbone)
        with training_progress(console) as progress:
            learned, tested = (
                seen_phantoms(maker, count, frozen, given.out / "kept", progress) for maker, count in makers.items()
            )
            task = progress.add_task("Training heads", total=None)
            game = play_game(learned, tested, frozen, GameSettings(given.steps, given.tolerance), given.out)
            progress.update(task, total=1, completed=1)
    except ChexnodeError as error:
        console.print(f"[red]{error}[/]", highlight=False)
        raise SystemExit(1) from None
    for head in game.heads:
        console.print(_table(game, head))
    better = game.v2_over_v1
    console.print(f"hits of v2 less those of v1, mean over the classes: {_signed(better)}", highlight=False)
    console.print(f"written: {given.out}/pointing_game.json and .png", soft_wrap=True, highlight=False)


def read_backbone(path: Path | None) -> Frozen:
    """Of a bundle's folder (None: the shipped one) or of a file of `chexnode train pretrain`. Raises ChexnodeError."""
    if path is not None and path.is_file():
        trained = read_trained(path)
        recipe = recipe_of(trained)
        return Frozen(recipe.name, kept_backbone(trained), seen_preprocessing(recipe, stage_of(trained)))
    bundle = load_bundle(bundle_folder(path))
    manifest = bundle.manifest
    return Frozen(f"{manifest.name} {manifest.version}", bundle.network.backbone, manifest.preprocessing)


def seen_phantoms(maker: PhantomMaker, count: int, frozen: Frozen, kept: Path, progress: Progress) -> Seen:
    """Phantoms and their features, in the folder `kept`; what an earlier run has made there is used."""
    preprocessing = frozen.preprocessing
    # Also another phantom, or another way of placing it, is another image.
    origin = hashlib.sha256(repr((maker, count, preprocessing, code_digest())).encode()).hexdigest()
    # The second look is not asked: the least detail that fits.
    examples = render_examples(
        maker, count, kept / origin[:24], Placing(preprocessing, max(DETAIL_CROP, preprocessing.size)), progress
    )
    document = StoreDocument(
        preprocessing=preprocessing,
        targets=list(TARGETS),
        patients=[str(maker.first_seed + index) for index in range(count)],
        sources=["phantom"] * count,
        origin=origin,
    )
    store = Store(Squares([examples.images]), examples.classes, document)
    title = f"features, {maker.family.value}"
    features = cached_features(frozen.backbone, store, preprocessing, kept / "features", progress, title)
    return Seen(examples, features)


def play_game(learned: Seen, tested: Seen, frozen: Frozen, settings: GameSettings, out: Path) -> PointingGame:
    """Train both heads, play, and write pointing_game.json and .png into `out`.

    Raises SettingsError when what is learned from shows too few findings with a place.
    """
    cut = len(learned.examples) - max(1, round(_VALIDATION * len(learned.examples)))
    rows = {"train": np.arange(cut), "validation": np.arange(cut, len(learned.examples))}
    targets = tuple(_taught(learned.examples.rows(slice(0, cut))))
    if len(targets) < 2:
        raise SettingsError("The phantoms show too few findings to train heads with: raise --training.")
    labels = learned.examples.classes[:, [TARGETS.index(target) for target in targets]]
    parts = {name: Labelled(learned.features, mine, labels[mine]) for name, mine in rows.items()}
    patch = frozen.preprocessing.size / max(tested.features.grid)
    games: dict[str, Game] = {}
    maps, peaks, heads = {}, {}, []
    for name, kind in _HEADS.items():
        create = fresh_head(kind, frozen.backbone, len(targets))
        chosen = best_of_grid(
            create,
            parts["train"],
            parts["validation"],
            rates=_RATES,
            steps=settings.steps,
            batch=_BATCH,
            precision="bf16",
        )
        attention = _attention(chosen.head, tested.features)
        grid = tested.features.grid
        peaks[name] = peaks_of(attention, grid, tested.examples.size)
        maps[name] = attention.mean(axis=1).reshape(*attention.shape[:1], len(targets), *grid)
        games[name] = play(tested.examples, targets, peaks[name], settings.tolerance * patch)
        figures = figures_of(games[name])
        heads.append(HeadFigures(head=name, rate=chosen.rate, validation=chosen.validation, classes=figures))
    game = PointingGame(
        backbone=frozen.name,
        training=cut,
        validation=len(learned.examples) - cut,
        test=len(tested.examples),
        steps=settings.steps,
        tolerance=settings.tolerance * patch,
        size=tested.examples.size,
        heads=heads,
        v2_over_v1=difference("hits of v2 over v1", games["v2"], games["v1"]),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "pointing_game.json").write_text(game.model_dump_json(indent=2) + "\n", encoding="utf-8")
    save_sheet(tested.examples, targets, maps, peaks, out / "pointing_game.png")
    return game


def _taught(learned: Examples) -> list[str]:
    """Classes with a place that there are enough cases of to learn them."""
    return Mixture([Part("phantom", learned)]).taught(PLACED)


@torch.inference_mode()
def _attention(head: nn.Module, features: CachedFeatures) -> NDArray[np.float32]:
    """float32 [n, heads, K, N]"""
    head.eval()
    parts = []
    for start in range(0, len(features), _ASKED_AT_ONCE):
        parts.append(head(features.of(np.arange(start, min(start + _ASKED_AT_ONCE, len(features)))))[1].numpy())
    return np.concatenate(parts)


def _table(game: PointingGame, head: HeadFigures) -> Table:
    title = (
        f"{game.backbone}, GLoRI {head.head} (rate {head.rate:g}, validation AUROC {head.validation:.3f}); "
        f"{game.test:,} frozen phantoms, tolerance {game.tolerance:g} of {game.size} px"
    )
    table = Table("class", "n", "hits", "other queries", "chance", "over other queries", "over chance", title=title)
    for each in head.classes:
        table.add_row(
            each.target,
            str(each.hit.n),
            f"{each.hit.value:.2f} ({each.hit.low:.2f} to {each.hit.high:.2f})",
            f"{each.others.value:.2f}",
            f"{each.chance.value:.2f} {each.area}",
            _signed(each.over_others),
            _signed(each.over_chance),
            style="bold" if not each.area else None,
        )
    return table


def _signed(figure: Metric) -> str:
    return f"{figure.value:+.2f} ({figure.low:+.2f} to {figure.high:+.2f})"


if __name__ == "__main__":
    main()
