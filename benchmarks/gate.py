"""Whether the gate lets pass what is as good and refuses what is worse: `python -m benchmarks.gate [--images 600]`.

A real bundle on fresh phantoms. As good: the bundle beside itself, each time with other noise in its input, on ten
random halves of the phantoms. Worse: its tips shifted by 10 mm, its classes shuffled in a fifth of the images, its left
and right lungs swapped.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from schemas.bundle import bundle_folder
from schemas.codes import Landmark, Segment
from training.evaluation.cases import Cases
from training.progress import training_progress
from training.regeneration.gate import GateRules, GateVerdict, PrimaryMetric, judge
from training.regeneration.look_making import LookMaking
from training.regeneration.recipe import default_recipe, read_recipe
from workers.bundle import LoadedBundle, load_bundle
from workers.networks.network import NetworkOutput

#: Phantoms that neither training nor its evaluation has drawn.
_FIRST_SEED = 60_000_000
#: Of a normalised input, whose grey values have a standard deviation of about 1: two grey levels of 255.
_NOISE = 2 / 255 / 0.25
_HALVES = 10
_SHIFT_MM = 10.0
#: Of a film, about.
_FILM_MM = 400.0
_RULES = GateRules(
    metrics=[
        PrimaryMetric(
            statistic="auroc", figure="endotracheal_tube.malposition", better="higher", margin=0.05, limit=0.5
        ),
        PrimaryMetric(statistic="auroc", figure="endotracheal_tube.presence", better="higher", margin=0.03, limit=0.5),
        PrimaryMetric(statistic="auroc", figure="pleural_effusion", better="higher", margin=0.03, limit=0.5),
        PrimaryMetric(statistic="median", figure="tube tip error mm", better="lower", margin=1.5, limit=50.0),
        PrimaryMetric(statistic="mean", figure="Dice right_lung", better="higher", margin=0.01, limit=0.5),
        PrimaryMetric(statistic="mean", figure="Dice left_lung", better="higher", margin=0.01, limit=0.5),
    ]
)


@dataclass(frozen=True)
class Sabotage:
    """Changes what a network gives, in its first look and, where it has one, in its second."""

    first: Callable[[NetworkOutput], NetworkOutput]
    closer: Callable[[Tensor], Tensor] = lambda logits: logits


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--recipe", type=Path, help="Whose phantoms and gate; default: the shipped bundle's.")
    arguments = parser.parse_args()
    console = Console(width=140)
    recipe = read_recipe(arguments.recipe or default_recipe())
    rules = recipe.gate or _RULES
    frozen = recipe.evaluation.model_copy(update={"first_seed": _FIRST_SEED, "count": arguments.images})
    recipe = recipe.model_copy(update={"evaluation": frozen})
    bundle = load_bundle(bundle_folder(arguments.bundle))
    with training_progress(console) as progress:
        making = LookMaking(recipe, [], progress)
        active, equal = (_read(making.cases, bundle, seed, None) for seed in (1, 2))
        worse = {
            name: _read(making.cases, bundle, 3, sabotage)
            for name, sabotage in {
                "tips shifted by 10 mm": shifted(bundle),
                "classes shuffled in 20 % of the images": _shuffled(),
                "left and right swapped": _swapped(bundle),
            }.items()
        }
    rng = np.random.default_rng(0)
    halves = [np.sort(rng.permutation(len(active))[: len(active) // 2]) for _ in range(_HALVES)]
    verdicts = [judge(rules, _rows(equal, half), _rows(active, half), ("as good", "active")) for half in halves]
    console.print(f"as good: {sum(each.passed for each in verdicts)} of {_HALVES} halves of {len(halves[0])} pass")
    table = Table("candidate", "verdict", "reasons")
    for number, verdict in enumerate(verdicts, start=1):
        if not verdict.passed:
            table.add_row(f"as good, half {number}", *_words(verdict))
    for name, cases in worse.items():
        table.add_row(name, *_words(judge(rules, cases, active, (name, "active"))))
    console.print(table)


def _read(cases: Callable[[LoadedBundle], Cases], bundle: LoadedBundle, seed: int, sabotage: Sabotage | None) -> Cases:
    """The frozen cases, with noise of this seed in the network's input, and sabotage of its output."""
    with disturbed(bundle, seed, sabotage):
        return cases(bundle)


@contextmanager
def disturbed(bundle: LoadedBundle, seed: int, sabotage: Sabotage | None) -> Iterator[None]:
    """Noise of this seed in the input of both looks, and sabotage of what they give."""
    noise = torch.Generator().manual_seed(seed)

    def disturb(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0] + _NOISE * torch.randn(given[0].shape, generator=noise), *given[1:])

    def change(_: nn.Module, __: object, output: NetworkOutput) -> NetworkOutput:
        return output if sabotage is None else sabotage.first(output)

    def change_closer(_: nn.Module, __: object, logits: Tensor) -> Tensor:
        return logits if sabotage is None else sabotage.closer(logits)

    hooks = [bundle.network.register_forward_pre_hook(disturb), bundle.network.register_forward_hook(change)]
    second = bundle.network.second_look
    if second is not None:
        hooks += [second.register_forward_pre_hook(disturb), second.register_forward_hook(change_closer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shifted(bundle: LoadedBundle) -> Sabotage:
    """Endotracheal tips 10 mm lower, in both looks: the second would put right what the first has wrong."""
    manifest = bundle.manifest
    assert manifest.dense is not None
    channel = manifest.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)
    cells = _cells(manifest.preprocessing.size, manifest.dense.stride)
    head = manifest.second_look

    def shift(output: NetworkOutput) -> NetworkOutput:
        return output._replace(dense=_lower(output.dense, channel, cells))

    def shift_closer(logits: Tensor) -> Tensor:
        assert head is not None
        tip = head.channels.index(Landmark.ENDOTRACHEAL_TUBE_TIP)
        return _lower(logits, tip, _cells(head.detail_size, head.stride))

    return Sabotage(shift, shift_closer)


def _cells(side: int, stride: int) -> int:
    """So many cells of a map are 10 mm, where a film fills `side` pixels."""
    return round(_SHIFT_MM / (_FILM_MM / side * stride))


def _lower(maps: Tensor, channel: int, cells: int) -> Tensor:
    moved = maps.clone()
    moved[:, channel] = torch.roll(maps[:, channel], cells, dims=1)
    return moved


def _shuffled() -> Sabotage:
    rng = np.random.default_rng(4)
    seen: list[Tensor] = []

    def shuffle(output: NetworkOutput) -> NetworkOutput:
        seen.append(output.logits)
        if rng.random() < 0.2:
            return output._replace(logits=seen[int(rng.integers(len(seen)))])
        return output

    return Sabotage(shuffle)


def _swapped(bundle: LoadedBundle) -> Sabotage:
    right, left = (bundle.manifest.channels.index(lung) for lung in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG))

    def swap(output: NetworkOutput) -> NetworkOutput:
        dense = output.dense.clone()
        dense[:, [right, left]] = dense[:, [left, right]]
        return output._replace(dense=dense)

    return Sabotage(swap)


def _rows(cases: Cases, rows: NDArray[np.intp]) -> Cases:
    def chosen(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[row] for row in rows)

    return Cases(
        names=chosen(cases.names),
        patients=chosen(cases.patients),
        figures={name: values[rows] for name, values in cases.figures.items()},
        groups={name: chosen(values) for name, values in cases.groups.items()},
    )


def _words(verdict: GateVerdict) -> tuple[str, str]:
    return "passed" if verdict.passed else "refused", "\n".join(verdict.reasons)


if __name__ == "__main__":
    main()
