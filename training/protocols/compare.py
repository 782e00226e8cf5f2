"""Compares backbones: probes and fine-tuning at several shares of the labels, each over several draws of patients.

Called by `chexnode train compare`. Validation images choose rates and the best backbone; test images only count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from schemas.errors import SettingsError
from schemas.preprocessing import Preprocessing
from training.pretraining.store import Store
from training.protocols.features import CachedFeatures, cached_features
from training.protocols.grid import Labelled, Precision, best_of_grid, said
from training.protocols.heads import HeadKind, fresh_head
from training.protocols.label_draws import drawn_rows
from training.protocols.scores import Figure, mean_difference, mean_score
from training.protocols.tuning import LabelledImages, TuningSettings, said_of_images, tuned
from training.sources.source import Split
from workers.networks.features import Backbone

#: A kind of head on frozen features, or a way of fine-tuning.
Protocol = Literal[HeadKind, "finetune", "lora"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
FROZEN: tuple[HeadKind, ...] = get_args(HeadKind)
#: Fine-tuning is dear: at these shares only, of the best backbone and of a fresh one.
TUNED_SHARES = (0.01, 0.1, 1.0)
#: Fresh weights of the same network: what pre-training has to be better than.
SCRATCH = "random"


@dataclass(frozen=True, eq=False)
class Contestant:
    """A backbone under a name."""

    name: str
    backbone: Backbone
    preprocessing: Preprocessing
    #: The contestant with fresh weights that it is compared with; its own name for that one.
    scratch: str
    #: Of its fine-tuning at each rate; None: those of the settings.
    tuning_steps: int | None = None


@dataclass(frozen=True)
class ComparisonSettings:
    targets: tuple[str, ...]
    protocols: tuple[Protocol, ...] = ("linear", "glori")
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
    #: Of the labels' patients; of all labels there is one.
    draws: int = 10
    steps: int = 400
    tuning: TuningSettings = field(default_factory=TuningSettings)
    #: Learned from one source, tested on another.
    across: tuple[tuple[str, str], ...] = ()


class Score(BaseModel):
    """One line of the table: macro AUROC on test images, mean over the draws, with its interval by patient."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Protocol
    contestant: str
    #: "" unless learned from one source and tested on another.
    across: str = ""
    share: float
    #: Images that labels were given of, in the mean.
    labelled: int
    draws: int
    tested: int
    auroc: float
    low: float
    high: float
    #: On validation images, which is what choices are made by.
    validation: float
    #: The rate that validation images chose in each draw, and the steps of the training at each rate.
    rates: list[float]
    steps: int
    #: Less that of fresh weights, with an interval corrected over the contestants; None for those themselves.
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


class Comparison(BaseModel):
    """comparison.json"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: list[str]
    scores: list[Score]


@dataclass(frozen=True, eq=False)
class _Said:
    """What one contestant's heads said of the test images."""

    #: [draws, n, targets]
    scores: NDArray[np.float32]
    labelled: int
    validation: float
    #: Chosen in each draw.
    rates: list[float]
    #: Of each training.
    steps: int


class Comparer:
    """All protocols over the same images and draws."""

    def __init__(
        self, stores: Mapping[Split, Store], settings: ComparisonSettings, cache: Path, progress: Progress
    ) -> None:
        self._stores, self._settings, self._cache, self._progress = stores, settings, cache, progress
        self._targets = [target for target in settings.targets if all(_has_both(s, target) for s in stores.values())]
        if left := [target for target in settings.targets if target not in self._targets]:
            progress.console.print(f"[yellow]left out:[/] of {', '.join(left)} not every part has and lacks cases")
        if not self._targets:
            raise SettingsError(
                "Of no target do training, validation and test images have cases and others; name more."
            )
        self._labels = {split: store.labels_of(self._targets) for split, store in stores.items()}
        self._owners = {split: store.owners for split, store in stores.items()}

    def compare(self, contestants: Sequence[Contestant]) -> Comparison:
        """Every contestant by every protocol; fine-tuning of the best by linear probe, and of fresh weights."""
        scores: list[Score] = []
        features = {each.name: self._features(each) for each in contestants}
        for kind in (each for each in FROZEN if each in self._settings.protocols):
            for share in self._settings.shares:
                spoken = {each.name: self._probed(each, features[each.name], kind, share) for each in contestants}
                scores += self._scored(kind, share, contestants, spoken)
            for source, other in self._across():
                spoken = {
                    each.name: self._probed(each, features[each.name], kind, 1.0, source, other) for each in contestants
                }
                scores += self._scored(kind, 1.0, contestants, spoken, source, other)
        best = self._best(contestants, scores)
        fine_tuned: dict[tuple[str, float], _Said] = {}
        for protocol in (each for each in self._settings.protocols if each not in FROZEN):
            # Beside LoRA fresh weights are fine-tuned whole: small matrices cannot make up for what was never learned.
            tried = [each for each in contestants if each.name in (best.name, best.scratch)]
            for share in (each for each in TUNED_SHARES if each in self._settings.shares):
                for each in tried:
                    # Fresh weights are the same ones beside either, and the dearest of all.
                    if each.name != each.scratch or (each.name, share) not in fine_tuned:
                        fine_tuned[each.name, share] = self._tuned(each, protocol, share)
                spoken = {each.name: fine_tuned[each.name, share] for each in tried}
                scores += self._scored(protocol, share, tried, spoken)
        return Comparison(targets=self._targets, scores=scores)

    def _across(self) -> list[tuple[str, str]]:
        """Pairs of sources of which images are there, each with both kinds of cases. Raises SettingsError otherwise."""
        for source, other in self._settings.across:
            parts: tuple[tuple[Split, str], ...] = (("train", source), ("val", source), ("test", other))
            for split, name in parts:
                labels = self._labels[split][self._rows(split, name)]
                if not ((labels > 0.5).any(axis=0) & (labels <= 0.5).any(axis=0)).any():
                    raise SettingsError(f"Of {name} no target has both kinds of cases in its {split} images.")
        return list(self._settings.across)

    def _features(self, contestant: Contestant) -> dict[Split, CachedFeatures]:
        return {
            split: cached_features(
                contestant.backbone,
                store,
                contestant.preprocessing,
                self._cache,
                self._progress,
                f"{contestant.name}, {split}",
            )
            for split, store in self._stores.items()
        }

    def _probed(
        self,
        contestant: Contestant,
        features: Mapping[Split, CachedFeatures],
        kind: HeadKind,
        share: float,
        source: str = "",
        other: str = "",
    ) -> _Said:
        create = fresh_head(kind, contestant.backbone, len(self._targets))
        # Heads that attend are a hundred times as dear; on features that are kept as float16 bfloat16 does for them.
        precision: Precision = "float32" if kind == "linear" else "bf16"
        validation = self._labelled("val", features, self._rows("val", source))
        tested = self._labelled("test", features, self._rows("test", other))
        spoken, found, given, rates = [], [], [], []
        draws, steps = self._draws(share), self._settings.steps
        task = self._progress.add_task(f"{contestant.name}, {kind} {share:.0%}", total=draws)
        for draw in range(draws):
            rows = self._given(share, draw, source)
            learned = self._labelled("train", features, rows)
            chosen = best_of_grid(create, learned, validation, steps=steps, seed=draw, precision=precision)
            rates.append(chosen.rate)
            spoken.append(said(chosen.head, tested))
            found.append(chosen.validation)
            given.append(len(rows))
            self._progress.advance(task)
        return _Said(np.stack(spoken), round(float(np.mean(given))), float(np.mean(found)), rates, steps)

    def _tuned(self, contestant: Contestant, protocol: Protocol, share: float) -> _Said:
        settings = self._settings.tuning
        settings = replace(settings, steps=contestant.tuning_steps or settings.steps)
        if contestant.name == contestant.scratch:
            # Layer decay keeps what the first blocks have learned; fresh ones have to learn it.
            settings = replace(settings, layer_decay=1.0)
        elif protocol == "lora":
            settings = replace(settings, lora=True)
        draws = self._draws(share)
        task = self._progress.add_task(
            f"{contestant.name}, {protocol} {share:.0%}", total=draws * settings.steps * len(settings.rates)
        )
        images = {split: self._images(split, self._rows(split, "")) for split in ("val", "test")}
        spoken, given, found, rates = [], [], [], []
        for draw in range(draws):
            rows = self._given(share, draw, "")
            chosen = tuned(
                contestant.backbone,
                self._images("train", rows),
                images["val"],
                contestant.preprocessing,
                settings,
                lambda: self._progress.advance(task),
                draw,
            )
            spoken.append(said_of_images(chosen.network, images["test"], contestant.preprocessing))
            given.append(len(rows))
            found.append(chosen.validation)
            rates.append(chosen.rate)
        return _Said(np.stack(spoken), round(float(np.mean(given))), float(np.mean(found)), rates, settings.steps)

    def _scored(
        self,
        protocol: Protocol,
        share: float,
        contestants: Sequence[Contestant],
        spoken: Mapping[str, _Said],
        source: str = "",
        other: str = "",
    ) -> list[Score]:
        rows = self._rows("test", other)
        truth, owners = self._labels["test"][rows], self._owners["test"][rows]
        compared = sum(each.name != each.scratch for each in contestants)
        scores = []
        for each in contestants:
            mine = spoken[each.name]
            figure = mean_score(mine.scores, truth, owners)
            gain: Figure | None = None
            if each.name != each.scratch and each.scratch in spoken:
                gain = mean_difference(mine.scores, spoken[each.scratch].scores, truth, owners, compared)
            scores.append(
                Score(
                    protocol=protocol,
                    contestant=each.name,
                    across=f"{source} to {other}" if source else "",
                    share=share,
                    labelled=mine.labelled,
                    draws=len(mine.scores),
                    tested=len(rows),
                    auroc=figure.value,
                    low=figure.low,
                    high=figure.high,
                    validation=mine.validation,
                    rates=mine.rates,
                    steps=mine.steps,
                    gain=gain.value if gain else None,
                    gain_low=gain.low if gain else None,
                    gain_high=gain.high if gain else None,
                )
            )
        return scores

    def _best(self, contestants: Sequence[Contestant], scores: Sequence[Score]) -> Contestant:
        """By validation images alone, with as many labels as there are."""
        pretrained = [each for each in contestants if each.name != each.scratch] or list(contestants)

        def validation(contestant: Contestant) -> float:
            of_it = [each for each in scores if each.contestant == contestant.name and not each.across]
            most = max((each.share for each in of_it), default=0.0)
            return float(np.nan_to_num(np.mean([each.validation for each in of_it if each.share == most] or [0.0])))

        return max(pretrained, key=validation)

    def _given(self, share: float, draw: int, source: str) -> NDArray[np.intp]:
        """Rows of the training images whose labels are given."""
        rows = self._rows("train", source)
        return rows[drawn_rows(self._labels["train"][rows], self._owners["train"][rows], share, draw)]

    def _rows(self, split: Split, source: str) -> NDArray[np.intp]:
        """Of one source, or of all ("")."""
        sources = np.array(self._stores[split].document.sources)
        return np.flatnonzero(sources == source) if source else np.arange(len(sources))

    def _draws(self, share: float) -> int:
        return 1 if share >= 1 else self._settings.draws

    def _labelled(self, split: Split, features: Mapping[Split, CachedFeatures], rows: NDArray[np.intp]) -> Labelled:
        return Labelled(features[split], rows, self._labels[split][rows])

    def _images(self, split: Split, rows: NDArray[np.intp]) -> LabelledImages:
        return LabelledImages(self._stores[split], rows, self._labels[split][rows])


def _has_both(store: Store, target: str) -> bool:
    column = store.labels_of([target])
    return bool((column > 0.5).any() and (column <= 0.5).any())
