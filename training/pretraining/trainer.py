"""The trainer under all methods: one step after the other, on one process or many, and on from where a kill left it.

All randomness of a step follows from seed, step and the images' places in the global batch, so an interrupted training
ends in the weights of one that was not, bit for bit. Called by `chexnode train pretrain`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from schemas.errors import SettingsError
from training.learning.loop import CurvePoint
from training.pretraining.checkpoint import Trained, go_on, keep, read_trained, write_trained
from training.pretraining.draws import Draws
from training.pretraining.event_log import EventLog
from training.pretraining.method import Method
from training.pretraining.order import rows_of_step
from training.pretraining.parallel import Processes, Strategy, shared_out
from training.pretraining.parameter_groups import parameter_groups
from training.pretraining.positions import carried_over
from training.pretraining.probe import Probe
from training.pretraining.recipe import PretrainingRecipe, StageTable
from training.pretraining.schedule import Moment, warmed_up_cosine
from training.pretraining.store import Store
from workers.bundle import normalise

TRAINED, CHECKPOINT, CURVE, EVENTS = "trained.pt", "checkpoint.pt", "curve.json", "events"
#: Below these the features say nothing any more.
_LEAST_SPREAD, _LEAST_ENTROPY = 0.02, 0.05


@dataclass(frozen=True)
class Machine:
    """How a training is shared out; decides nothing but how long it takes, and what batch statistics are over."""

    among: Processes
    strategy: Strategy = "ddp"
    #: Parts of a process's share of the batch that are computed one after the other, where it does not fit at once.
    accumulate: int = 1
    report_every: int = 20


@dataclass(frozen=True, eq=False)
class Images:
    """What is learned from, and what the probe asks about; None: nothing is asked."""

    learned: Store
    probed: Store | None = None


def pretrain(recipe: PretrainingRecipe, images: Images, out: Path, machine: Machine, progress: Progress) -> Path:
    """Train every stage of the recipe in the folder `out`; the file with what the last one has learned.

    Raises SettingsError for a folder of another recipe or a batch that the processes cannot share out,
    FloatingPointError when the loss is not finite.
    """
    before: Trained | None = None
    for number, stage in enumerate(recipe.stages):
        folder = out / f"{number + 1}-{stage.name}"
        trained = folder / TRAINED
        identity = _identity(recipe, stage, images.learned)
        if not trained.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Each stage draws anew.
            seed = recipe.seed + 1_000_003 * number
            torch.manual_seed(seed)
            method = recipe.create(stage)
            if before is not None:
                carried_over(before.method, method, stage.positions)
            _Training(recipe, stage, images, method, folder, machine, progress, identity, seed).run()
        # The file is there when everybody goes on.
        machine.among.meet()
        before = read_trained(trained)
        if before.recipe != _document(recipe):
            raise SettingsError(f"{trained} was made by another recipe. Give this one a folder of its own (--out).")
    return trained


class _Training:
    """One stage."""

    def __init__(
        self,
        recipe: PretrainingRecipe,
        stage: StageTable,
        images: Images,
        method: Method,
        folder: Path,
        machine: Machine,
        progress: Progress,
        identity: str,
        seed: int,
    ) -> None:
        self._recipe, self._stage, self._store, self._seed = recipe, stage, images.learned, seed
        self._folder, self._machine, self._progress, self._identity = folder, machine, progress, identity
        self._among = machine.among
        parts = self._among.count * machine.accumulate
        if stage.batch % parts or stage.batch // parts < 2:
            raise SettingsError(
                f"Stage {stage.name} has a batch of {stage.batch}, which {parts} parts (processes x --accumulate) "
                "cannot share with two images or more each."
            )
        self._micro = stage.batch // parts
        self._device = self._among.device
        self._method = method.to(self._device).train()
        self._network = shared_out(self._method, self._among, machine.strategy)
        table = recipe.optimizer
        # Of a network that FSDP shares out these are the shares.
        groups = parameter_groups(self._method, table.weight_decay.start, patch_embedding=table.patch_embedding)
        self._optimizer: torch.optim.Optimizer
        if table.kind == "sgd":
            self._optimizer = torch.optim.SGD(groups, lr=table.rate, momentum=table.betas[0])
        else:
            self._optimizer = torch.optim.AdamW(groups, lr=table.rate, betas=table.betas)
        self._curve: list[CurvePoint] = []
        self._probe, self._probe_every = None, 0
        if images.probed is not None and recipe.probe is not None:
            self._probe = Probe(images.probed, recipe.probe.targets, stage.sizes[0], recipe.preprocessing)
            self._probe_every = recipe.probe.every

    def run(self) -> None:
        checkpoint, steps = self._folder / CHECKPOINT, self._stage.steps
        first = 0
        if checkpoint.exists():
            first, self._curve = go_on(checkpoint, self._identity, self._network, self._optimizer)
        task = self._progress.add_task(f"{self._recipe.name} {self._stage.name}", total=steps, completed=first)
        with self._event_log(first) as log:
            for step, batch in self._batches(first):
                loss = self._step(Moment(step, steps), batch)
                last = step == steps - 1
                if step % self._machine.report_every == 0 or last:
                    self._report(step, loss, log)
                if self._probe is not None and ((step + 1) % self._probe_every == 0 or last):
                    self._ask(step, log)
                if (step + 1) % self._recipe.checkpoint_every == 0 and not last:
                    if log is not None:
                        log.flush()
                    keep(checkpoint, self._identity, step + 1, self._network, self._optimizer, self._curve, self._among)
                self._progress.advance(task)
        if self._among.is_first:
            points = [{"step": point.step, **point.losses} for point in self._curve]
            (self._folder / CURVE).write_text(json.dumps(points), encoding="utf-8")
        document = _document(self._recipe)
        write_trained(self._folder / TRAINED, document, self._stage.name, self._network, self._among)
        if self._among.is_first:
            checkpoint.unlink(missing_ok=True)

    def _step(self, moment: Moment, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        """One step of the optimizer; the parts of the loss and the monitors, means over its parts, on the device."""
        table = self._recipe.optimizer
        rate = warmed_up_cosine(moment, table.peak(self._stage.batch), table.end_rate, self._stage.warm_up_steps)
        decay = table.weight_decay.at(moment)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
            group["weight_decay"] = decay * group["decays"]
        self._optimizer.zero_grad(set_to_none=True)
        said: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            with self._gathering_later(number < len(parts) - 1):
                loss = self._loss(moment, number, part)
                total = torch.stack([each.float() for each in loss.parts.values()]).sum() / len(parts)
                total.backward()  # type: ignore[no-untyped-call]
            for name, value in {**loss.parts, **loss.monitors}.items():
                said[name] = said.get(name, 0.0) + value.detach().float() / len(parts)
        if table.clipped_at is not None:
            for module in self._method.clipped_apart():
                nn.utils.clip_grad_norm_(module.parameters(), table.clipped_at)
        still = [(parameter, parameter.detach().clone()) for parameter in self._method.standing_still(moment)]
        self._optimizer.step()
        with torch.no_grad():
            for parameter, before in still:
                parameter.copy_(before)
        self._method.after_step(moment)
        return said

    def _loss(self, moment: Moment, number: int, images: Tensor) -> Any:
        seed, step = self._seed, moment.step
        start = self._place(number)
        draws = Draws(seed, step, range(start, start + len(images)))
        # Dropped paths and shuffles draw from the global generators.
        torch.manual_seed(int(np.random.SeedSequence([seed, step, start]).generate_state(1, np.uint64)[0] >> 1))
        squares = images.to(self._device, non_blocking=True).float()[:, None] / 255
        views = [
            normalise(view.of(squares, size, draws)[:, 0], self._recipe.preprocessing)
            for view, size in zip(self._recipe.method.views, self._stage.sizes, strict=True)
            for _ in range(view.count)
        ]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.precision == "bf16"):
            return self._network(views, draws, moment)

    def _place(self, number: int) -> int:
        """Where in the global batch this process's part `number` begins."""
        return (number * self._among.count + self._among.rank) * self._micro

    def _batches(self, first: int) -> Iterator[tuple[int, list[Tensor]]]:
        """Each step with this process's parts of its batch, uint8 [B, S, S]; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, first)
            for step in range(first, self._stage.steps):
                batch = ahead.result()
                if step + 1 < self._stage.steps:
                    ahead = reader.submit(self._read, step + 1)
                yield step, batch

    def _read(self, step: int) -> list[Tensor]:
        rows = rows_of_step(step, self._stage.batch, len(self._store), self._seed)
        parts = []
        for number in range(self._machine.accumulate):
            start = self._place(number)
            part = torch.from_numpy(self._store.images.take(rows[start : start + self._micro]))
            parts.append(part.pin_memory() if self._device.type == "cuda" else part)
        return parts

    def _gathering_later(self, later: bool) -> Any:
        """Gradients of all but the last part stay with this process."""
        if isinstance(self._network, DistributedDataParallel):
            return self._network.no_sync() if later else nullcontext()
        gather = getattr(self._network, "set_requires_gradient_sync", None)
        if gather is not None:
            gather(not later)
        return nullcontext()

    def _report(self, step: int, said: dict[str, Tensor], log: EventLog | None) -> None:
        values = torch.stack(list(said.values()))
        if self._among.count > 1:
            distributed.all_reduce(values)
            values /= self._among.count
        if not bool(torch.isfinite(values).all()):
            raise FloatingPointError(
                f"{self._recipe.name}, stage {self._stage.name}: the loss is not finite at step {step}. "
                "Give the recipe a smaller rate."
            )
        point = dict(zip(said, values.tolist(), strict=True))
        self._curve.append(CurvePoint(step, point))
        if log is None:
            return
        log.write(step, "training", {**point, "rate": self._optimizer.param_groups[0]["lr"]})
        parts = "  ".join(f"{name} {value:.3f}" for name, value in point.items())
        self._progress.console.print(f"{self._stage.name} step {step:5d}  {parts}", highlight=False)
        spread, entropy = point.get("feature_std", 1.0), point.get("teacher_entropy", 1.0)
        # With LayerScale the class token is the same for every image in the beginning.
        begun = step >= max(self._stage.warm_up_steps, self._stage.steps // 10)
        if begun and (spread < _LEAST_SPREAD or entropy < _LEAST_ENTROPY):
            self._progress.console.print(
                f"[yellow]collapse:[/] features hardly differ between images (spread {spread:.3f}, teacher entropy "
                f"{entropy:.3f} of 1). A smaller rate, a warmer teacher or a longer warm-up helps."
            )

    def _ask(self, step: int, log: EventLog | None) -> None:
        """Every process does, since features of a network that is shared out need all of them."""
        assert self._probe is not None
        self._method.eval()
        features_of: Callable[[Tensor], Tensor] = self._method.features
        found = self._probe.ask(features_of, self._device)
        self._method.train()
        if log is not None:
            values = {"neighbours": found.neighbours, "linear": found.linear}
            log.write(step, "probe", values)
            self._progress.console.print(
                f"{self._stage.name} step {step:5d}  AUROC of neighbours {found.neighbours:.3f}, "
                f"of a linear layer {found.linear:.3f}",
                highlight=False,
            )

    def _event_log(self, step: int) -> Any:
        return EventLog(self._folder / EVENTS, step) if self._among.is_first else nullcontext()


def _document(recipe: PretrainingRecipe) -> str:
    """What decides the weights: all but how often somebody looks."""
    return recipe.model_dump_json(exclude={"checkpoint_every", "probe"})


def _identity(recipe: PretrainingRecipe, stage: StageTable, store: Store) -> str:
    return json.dumps([_document(recipe), stage.name, len(store), store.document.origin])
