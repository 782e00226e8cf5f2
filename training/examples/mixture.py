"""What a training learns from: examples of one or several sources, each with its share of a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from training.examples.store import Examples
from training.examples.targets import TARGETS

#: Fewer known cases of either kind teach a class nothing.
LEAST_CASES = 20


@dataclass(frozen=True, eq=False)
class Part:
    """One source's examples."""

    name: str
    examples: Examples
    #: In proportion to those of the other parts: how often an example is drawn from this one.
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """All parts. Raises SettingsError when there is nothing to draw from."""

    parts: Sequence[Part]

    def __post_init__(self) -> None:
        if not any(len(part.examples) and part.weight > 0 for part in self.parts):
            raise SettingsError("There is nothing to learn from: give a source with examples and a weight above 0.")

    def taught(self, targets: Sequence[str] = TARGETS) -> list[str]:
        """Those of `targets` of which at least LEAST_CASES present and as many absent cases are known."""
        truth = np.concatenate([part.examples.classes for part in self.parts if part.weight > 0])
        present, absent = (truth == 1).sum(axis=0), (truth == 0).sum(axis=0)
        column = {target: index for index, target in enumerate(TARGETS)}
        return [each for each in targets if min(present[column[each]], absent[column[each]]) >= LEAST_CASES]

    def present_shares(self, targets: Sequence[str]) -> NDArray[np.float64]:
        """Share of present among the known cases of each target, float64 [targets], as batches will hold them."""
        columns = [TARGETS.index(target) for target in targets]
        present, known = np.zeros(len(columns)), np.zeros(len(columns))
        for part in self.parts:
            if len(part.examples):
                truth = part.examples.classes[:, columns]
                present += part.weight * (truth == 1).mean(axis=0)
                known += part.weight * np.isfinite(truth).mean(axis=0)
        shares: NDArray[np.float64] = present / np.maximum(known, 1e-9)
        return shares

    def batches(self, batch: int, seed: int, start: int = 0, *, detailed: bool = False) -> Iterator[Examples]:
        """Batches without end, from the step `start` on; each example of a part once per round of that part.

        The same seed and step give the same batch, however often training was interrupted.

        Parameters
        ----------
        detailed : only examples with a crop for the second look
        """
        rng = np.random.default_rng(seed)
        chosen = [np.flatnonzero(_usable(part.examples, detailed=detailed)) for part in self.parts]
        weights = np.array([part.weight if len(rows) else 0.0 for part, rows in zip(self.parts, chosen, strict=True)])
        if not weights.sum():
            raise SettingsError("No example has tube, tip and carina to look at closer: give phantoms.")
        rounds = [_rounds(rows, np.random.default_rng([seed, number])) for number, rows in enumerate(chosen)]
        step = 0
        while True:
            counts = rng.multinomial(batch, weights / weights.sum())
            rows = [np.array([next(turn) for _ in range(n)], np.intp) for turn, n in zip(rounds, counts, strict=True)]
            if step >= start:
                yield Examples.joined(
                    [part.examples.rows(np.sort(r)) for part, r in zip(self.parts, rows, strict=True) if len(r)]
                )
            step += 1


def _usable(examples: Examples, *, detailed: bool) -> NDArray[np.bool_]:
    return np.isfinite(examples.to_detail[:, 0]) if detailed else np.ones(len(examples), np.bool_)


def _rounds(rows: NDArray[np.intp], rng: np.random.Generator) -> Iterator[np.intp]:
    while True:
        yield from rng.permutation(rows)
