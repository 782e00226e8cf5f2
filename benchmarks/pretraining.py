"""Images/s of `dinov2` against a loop as in lightly's example: `python -m benchmarks.pretraining`.

Both train the same network on the same squares with the same crops, heads, prototypes and precision, in turns, in one
run. The example's loop is lightly's for DINOv2: torchvision's views of each image in a loader, its DINO and iBOT losses
(which centre by the mean), its KoLeo, AdamW and the moving average.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from lightly.loss.dino_loss import DINOLoss
from lightly.loss.ibot_loss import IBOTPatchLoss
from lightly.loss.koleo_loss import KoLeoLoss
from lightly.models.utils import random_block_mask, update_momentum
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from schemas.preprocessing import Preprocessing
from training.pretraining.dinov2 import Dinov2, Dinov2Settings
from training.pretraining.encoder import encode
from training.pretraining.parallel import Processes
from training.pretraining.recipe import PretrainingRecipe, read_pretraining_recipe, shipped_recipes
from training.pretraining.store import Squares, Store, StoreDocument
from training.pretraining.trainer import Images, Machine, pretrain

_STORED = 160


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="dinov2-small", help="a shipped recipe of dinov2")
    parser.add_argument("--steps", type=int, default=6, help="of each loop and turn, after one that is not counted")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(width=110)
    recipe = read_pretraining_recipe(shipped_recipes()[arguments.recipe]).with_limits(arguments.steps + 1, None)
    batch = recipe.stages[0].batch
    store = _squares(max(256, 2 * batch))
    ours, theirs = [], []
    with Progress(console=console, transient=True) as progress:
        for _ in progress.track(range(arguments.turns), description="turns"):
            ours.append(batch * arguments.steps / _ours(recipe, store, arguments.steps))
            theirs.append(batch * arguments.steps / _example(recipe, store, arguments.steps))
    table = Table("loop", "images/s (median)", "against the example", title=f"{recipe.name}, batch {batch}")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    table.add_row("chexnode train pretrain", f"{statistics.median(ours):.2f}", f"{ratio:.2f} (aim 1 or more)")
    table.add_row("lightly's example", f"{statistics.median(theirs):.2f}", "1")
    console.print(table)


def _squares(count: int) -> Store:
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 255, (count, _STORED // 8, _STORED // 8)), np.ones((1, 8, 8))).astype(np.uint8)
    document = StoreDocument(
        preprocessing=Preprocessing(profile="squares", size=_STORED, mean=(0.0,), std=(1.0,)),
        targets=["nodule"],
        patients=[str(index) for index in range(count)],
        sources=["drawn"] * count,
        origin="benchmark",
    )
    return Store(Squares([images]), np.full((count, 1), np.nan, np.float32), document)


def _ours(recipe: PretrainingRecipe, store: Store, steps: int) -> float:
    """Seconds of `steps` steps: those of one more, less those of one alone."""

    def seconds(count: int) -> float:
        with TemporaryDirectory() as folder, Progress(console=Console(quiet=True)) as progress:
            among = Processes(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            machine = Machine(among, report_every=1000)
            started = perf_counter()
            pretrain(recipe.with_limits(count, None), Images(store), Path(folder), machine, progress)
            return perf_counter() - started

    return seconds(steps + 2) - seconds(2)


class _Views(Dataset[list[Tensor]]):
    def __init__(self, settings: Dinov2Settings, sizes: list[int], store: Store) -> None:
        self._images = torch.from_numpy(store.images.take(np.arange(len(store))))
        normalise = v2.Normalize([0.5] * 3, [0.25] * 3)
        self._transforms = []
        for view, size in zip(settings.views, sizes, strict=True):
            steps: list[nn.Module] = [
                v2.RandomResizedCrop(size, view.scale, interpolation=v2.InterpolationMode.BICUBIC),
                v2.RandomApply([v2.ColorJitter(view.brightness, view.contrast)], view.jitter),
                v2.RandomApply([v2.GaussianBlur(9, view.blur_sigma)], view.blur),
                v2.RandomSolarize(0.5, view.solarize),
                normalise,
            ]
            self._transforms += [v2.Compose(steps)] * view.count

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> list[Tensor]:
        image = (self._images[index].float() / 255).expand(3, -1, -1)
        return [transform(image) for transform in self._transforms]


def _example(recipe: PretrainingRecipe, store: Store, steps: int) -> float:
    """Seconds of `steps` steps after the first."""
    settings, stage = recipe.method, recipe.stages[0]
    assert isinstance(settings, Dinov2Settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Networks and heads are the same ones, so that only the loop differs.
    method = recipe.create(stage).to(device).train()
    assert isinstance(method, Dinov2)
    loader = DataLoader(_Views(settings, stage.sizes, store), batch_size=stage.batch, shuffle=True, drop_last=True)
    dino = DINOLoss(settings.prototypes, teacher_temp=0.07).to(device)
    ibot = IBOTPatchLoss(settings.prototypes, teacher_temp=0.07).to(device)
    koleo = KoLeoLoss()
    optimizer = torch.optim.AdamW([each for each in method.student.parameters() if each.requires_grad], lr=1e-4)
    started = 0.0
    for step, views in zip(range(steps + 1), _forever(loader), strict=False):
        if step == 1:
            started = perf_counter()
        crops, local = torch.cat(views[:2]).to(device), torch.cat(views[2:]).to(device)
        side = crops.shape[2] // 16
        masked = random_block_mask((len(crops), side, side), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            with torch.no_grad():
                said = encode(method.teacher.backbone, crops)
                targets = method.teacher.dino_head(said.cls)
                patch_targets = method.teacher.ibot_head(said.patches[masked.flatten(1)])
            seen = encode(method.student.backbone, crops, masked=masked.flatten(1))
            closer = encode(method.student.backbone, local)
            learned = method.student.dino_head(torch.cat([seen.cls, closer.cls]))
            patches = method.student.ibot_head(seen.patches[masked.flatten(1)])
        loss = dino(list(targets.float().chunk(2)), list(learned.float().chunk(len(views))))
        loss = loss + settings.patch_weight * ibot(patch_targets.float(), patches.float(), masked)
        loss = loss + settings.koleo_weight * sum(koleo(part.float()) for part in seen.cls.chunk(2))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(method.student.parameters(), 3.0)
        optimizer.step()
        update_momentum(method.student, method.teacher, 0.994)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return perf_counter() - started


def _forever(loader: DataLoader[list[Tensor]]) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
