"""What a bundle says of frozen cases, one row each: the gate compares two bundles' row by row, the report draws them.

Made from readings (training/evaluation/reading.py), kept by the stage `evaluate`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: What counts for a point that was not located although it is there: as far off as no located one is, so that a bundle
#: gains nothing by saying less.
NOT_LOCATED_MM = 200.0

_GROUP = "group "
_FIGURE = "figure "


@dataclass(frozen=True, eq=False)
class Cases:
    """n cases in the order in which they were frozen."""

    #: The same for every bundle that read them.
    names: tuple[str, ...]
    #: Cases of one patient are no independent evidence.
    patients: tuple[str, ...]
    #: float64 [n] by name ("score pneumothorax", "truth pneumothorax", "tube tip error mm", "Dice heart", ...); NaN
    #: where it makes no sense. What the bundle cannot say has no entry.
    figures: Mapping[str, NDArray[np.float64]]
    #: Subgroups by name ("sex", "view", ...), one value for each case.
    groups: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.names)

    def columns(self, statistic: str, figure: str) -> NDArray[np.float64] | None:
        """What a statistic is computed from, float64 [n, k]: score and truth for "auroc", else the figure itself."""
        names = [f"score {figure}", f"truth {figure}"] if statistic == "auroc" else [figure]
        if any(name not in self.figures for name in names):
            return None
        return np.stack([self.figures[name] for name in names], axis=1)


def save_cases(cases: Cases, path: Path) -> None:
    """One .npz archive."""
    figures = {_FIGURE + name: values for name, values in cases.figures.items()}
    groups = {_GROUP + name: np.array(values, dtype=np.str_) for name, values in cases.groups.items()}
    own = {"names": np.array(cases.names, dtype=np.str_), "patients": np.array(cases.patients, dtype=np.str_)}
    arrays: dict[str, NDArray[np.generic]] = {**own, **figures, **groups}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_cases(path: Path) -> Cases:
    with np.load(path, allow_pickle=False) as stored:
        return Cases(
            names=_texts(stored["names"]),
            patients=_texts(stored["patients"]),
            figures={n.removeprefix(_FIGURE): stored[n] for n in stored.files if n.startswith(_FIGURE)},
            groups={n.removeprefix(_GROUP): _texts(stored[n]) for n in stored.files if n.startswith(_GROUP)},
        )


def _texts(values: Sequence[object] | NDArray[np.generic]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)
