"""Label efficiency: whose labels are given when only a share of them is. Pure functions; called by compare.py."""

import numpy as np
from numpy.typing import NDArray

#: Shares of the labels that are compared.
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def drawn_rows(labels: NDArray[np.float32], owners: NDArray[np.str_], share: float, draw: int) -> NDArray[np.intp]:
    """Rows of the images whose labels are given: those of about `share` of the patients, whole patients only.

    Stratified: patients are drawn apart by the rarest target that any of their images shows, so that a small draw has
    rare targets too; a stratum gives at least one patient. Larger shares of the same draw contain the smaller ones.

    Parameters
    ----------
    labels : float32 [N, targets]; 1 present, 0 absent, NaN unknown
    owners : [N], whose image it is
    draw : number of the draw; another one gives other patients
    """
    _, patient = np.unique(owners, return_inverse=True)
    strata = _strata(labels, patient)
    chosen = np.zeros(len(strata), np.bool_)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        order = np.random.default_rng([draw, int(stratum) + 1]).permutation(members)
        chosen[order[: max(1, round(share * len(members)))]] = True
    return np.flatnonzero(chosen[patient])


def _strata(labels: NDArray[np.float32], patient: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each patient the rarest target that is present, or -1."""
    shown = np.zeros((int(patient.max()) + 1, labels.shape[1]), np.bool_)
    np.logical_or.at(shown, patient, labels > 0.5)
    rarest_first = np.argsort(shown.sum(axis=0), kind="stable")
    ordered = shown[:, rarest_first]
    strata: NDArray[np.intp] = np.where(ordered.any(axis=1), rarest_first[ordered.argmax(axis=1)], -1)
    return strata
