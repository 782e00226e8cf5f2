"""Examples as the second look sees them: of each detail image the part that is kept. Called by calibration."""

import numpy as np

from schemas.bundle import Manifest
from training.examples.store import Examples
from workers.placement import Placement
from workers.second_look import Detail, detail_preprocessing, first_placement


def film_placements(examples: Examples, manifest: Manifest) -> list[Placement]:
    """How the film of each example lies in the model's input: what fills it as the film does is placed as the film."""
    return [
        Placement.of(bottom - top, right - left, manifest.preprocessing)
        for left, top, right, bottom in np.asarray(examples.areas).tolist()
    ]


def kept_details(examples: Examples, manifest: Manifest) -> list[Detail | None]:
    """One per example, black where nothing is kept; None: nothing of it is, or there is no second look.

    Where the film lies in an example is known to a pixel of the model, so that details lie up to two pixels aside.
    """
    return [_kept(examples, row, film, manifest) for row, film in enumerate(film_placements(examples, manifest))]


def _kept(examples: Examples, row: int, film: Placement, manifest: Manifest) -> Detail | None:
    finer = detail_preprocessing(manifest)
    offset = np.asarray(examples.to_detail[row, 2:], np.float64)
    if finer is None or not np.isfinite(offset).all():
        return None
    detail = Placement.of(film.rows, film.columns, finer)
    assert first_placement(manifest, detail) == film
    # The corner of the model's input in the detail image, less where it lies in what is kept of that.
    corner = detail.to_model(film.to_image(np.zeros((1, 2))))[0] - offset
    pixels = np.zeros((detail.size, detail.size), np.uint8)
    kept = np.asarray(examples.details[row])
    left, top = np.rint(corner).clip(0, detail.size - len(kept)).astype(int).tolist()
    pixels[top : top + len(kept), left : left + len(kept)] = kept
    return Detail(pixels, detail)
