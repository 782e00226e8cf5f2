"""Images that are there twice: the same pixels, or the same film printed, cropped or windowed anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy import ndimage

from training.curation.fingerprint import THUMBNAIL_SIDE, Fingerprint

#: Frequencies of opposite sign out of 63 up to which two images are compared closely. Measured on the 1,592 real images
#: at hand: every duplicate found by comparing all pairs lies within 9, and 0.1 % of all pairs do.
_MOST_SIGNS = 10
#: Correlation of fine structure from which two images are one film. Measured there: duplicates 0.88 and above, the same
#: patient in the same pose on another day at most 0.84, two patients at most 0.79.
_LEAST_CORRELATION = 0.86
#: One print may be cropped a little closer than the other.
_OTHER_SCALES = (0.95, 1.05)
#: Below it no scale makes a duplicate of two images.
_WORTH_SCALING = 0.4
_PADDED = 2 * THUMBNAIL_SIDE
_ROWS_AT_ONCE, _AT_ONCE = 512, 64


@dataclass(frozen=True)
class Duplicate:
    """Two images of one film, by their positions in what was compared."""

    first: int
    second: int
    #: Their pixels are equal.
    exact: bool


def find_duplicates(prints: Sequence[Fingerprint], progress: Progress) -> list[Duplicate]:
    """Every pair, `first` < `second`, in their order."""
    found = []
    fine = [_fine_structure(each.thumbnail_pixels()) for each in prints]
    task = progress.add_task("Looking for duplicates", total=len(prints))
    for first, others in _candidates(prints):
        for second, correlation in zip(others, _correlations(fine, prints, first, others), strict=True):
            exact = prints[first].sha256 == prints[second].sha256
            if exact or correlation >= _LEAST_CORRELATION:
                found.append(Duplicate(first, second, exact))
        progress.advance(task)
    return found


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, list[int]]]:
    """For each image the later ones of similar low frequencies."""
    hashes = np.array([each.frequencies for each in prints], np.uint64)
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        block = hashes[start : start + _ROWS_AT_ONCE]
        near = np.bitwise_count(block[:, None] ^ hashes[None, start:]) <= _MOST_SIGNS
        for row in range(len(block)):
            yield start + row, [start + int(column) for column in np.flatnonzero(near[row]) if column > row]


def _correlations(
    fine: Sequence[NDArray[np.float16]], prints: Sequence[Fingerprint], first: int, others: Sequence[int]
) -> list[float]:
    """Of the fine structure of `first` with that of each other, shifted and scaled to where they fit best."""
    if not others:
        return []
    fixed = _spectra([fine[first]])
    best = np.concatenate(
        [
            _best_shift(fixed, _spectra([fine[each] for each in others[start : start + _AT_ONCE]]))
            for start in range(0, len(others), _AT_ONCE)
        ]
    )
    for position in np.flatnonzero((best >= _WORTH_SCALING) & (best < _LEAST_CORRELATION)).tolist():
        thumbnail = prints[others[position]].thumbnail_pixels()
        scaled = [_fine_structure(ndimage.zoom(thumbnail, scale, order=1)) for scale in _OTHER_SCALES]
        best[position] = max(best[position], _best_shift(fixed, _spectra(scaled)).max())
    return [float(each) for each in best]


def _best_shift(fixed: NDArray[np.complex64], others: NDArray[np.complex64]) -> NDArray[np.float32]:
    shifted = np.fft.irfft2(fixed * others.conj(), s=(_PADDED, _PADDED))
    return np.asarray(shifted.max(axis=(1, 2)), np.float32)


def _spectra(structures: Sequence[NDArray[np.float16]]) -> NDArray[np.complex64]:
    padded = np.zeros((len(structures), _PADDED, _PADDED), np.float32)
    for index, each in enumerate(structures):
        padded[index, : each.shape[0], : each.shape[1]] = each
    return np.fft.rfft2(padded).astype(np.complex64)


def _fine_structure(thumbnail: NDArray[np.float32]) -> NDArray[np.float16]:
    """Without low frequencies, mean 0 and length 1; half precision, since all of them are kept at once."""
    fine = ndimage.gaussian_filter(thumbnail, 0.5) - ndimage.gaussian_filter(thumbnail, 3)
    # By its local strength: an arrow or a letter must not outweigh the ribs.
    strength = np.sqrt(ndimage.gaussian_filter(fine**2, 5))
    inside = (fine / (strength + 0.005))[2:-2, 2:-2]
    if not inside.size:
        return np.zeros((1, 1), np.float16)
    centred = inside - inside.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float16)
