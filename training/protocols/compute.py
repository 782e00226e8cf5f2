"""What a training costs in floating point operations, and how long fresh weights may learn for the same.

Called by `chexnode train compare --equal-compute`. Counted and not timed: another load or machine changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.pretraining.draws import Draws
from training.pretraining.recipe import PretrainingRecipe, StageTable
from training.pretraining.schedule import Moment
from training.protocols.tuning import Tuned, TuningSettings

#: Images that a count is made on; what an image costs does not depend on the others.
_COUNTED = 4


@dataclass(frozen=True)
class Budget:
    """Fine-tuning of fresh weights at the cost of pre-training and fine-tuning together, in operations."""

    pretraining: float
    #: Of all rates that are tried.
    tuning: float
    #: Of fine-tuning fresh weights, at each rate.
    steps: int


def equal_budget(recipe: PretrainingRecipe, settings: TuningSettings) -> Budget:
    """The budget of one draw of labels: the pre-training, which it pays once, and `settings.steps` at each rate.

    Counted are the matrix products of both passes through all networks of a step, teachers and decoders too; drawing of
    crops, optimizers and validation are left out. What LoRA saves of a step is not taken off.
    """
    pretraining = sum(_per_image(recipe, stage) * stage.batch * stage.steps for stage in recipe.stages)
    step = _per_tuned_image(recipe) * settings.batch
    tried = len(settings.rates)
    return Budget(pretraining, step * settings.steps * tried, settings.steps + round(pretraining / (step * tried)))


def _per_image(recipe: PretrainingRecipe, stage: StageTable) -> float:
    count, channels = min(_COUNTED, stage.batch), recipe.preprocessing.channels
    method = recipe.create(stage).train()
    views = [
        torch.randn(count, channels, size, size)
        for view, size in zip(recipe.method.views, stage.sizes, strict=True)
        for _ in range(view.count)
    ]
    # Past the warm-up, when everything learns.
    moment = Moment(stage.steps - 1, stage.steps)
    return _counted(lambda: torch.stack(list(method(views, Draws(0, 0, range(count)), moment).parts.values()))) / count


def _per_tuned_image(recipe: PretrainingRecipe) -> float:
    last = recipe.stages[-1]
    network = Tuned(recipe.create(last).kept, 1).requires_grad_(True).train()
    images = torch.randn(_COUNTED, recipe.preprocessing.channels, last.sizes[0], last.sizes[0])
    return _counted(lambda: network(images)) / _COUNTED


def _counted(output: Callable[[], Tensor]) -> float:
    """Operations of computing it and its gradients."""
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        output().sum().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())
