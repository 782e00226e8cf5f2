"""Many phantoms on one picture, to look at beside real films: `python -m training.phantom.contact_sheet OUT.png`.

Called by hand, and by whoever writes documents with phantoms in them.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from training.phantom.render import render_phantom
from training.phantom.truth import Family, View


def contact_sheet(images: Iterable[NDArray[np.float32]], columns: int = 4, side: int = 400) -> Image.Image:
    """Pictures float32 [rows, columns] in 0..1 in rows of `columns`, each within a square of `side` pixels."""
    given = list(images)
    sheet = Image.new("L", (columns * side, -(-len(given) // columns) * side))
    for number, image in enumerate(given):
        picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        sheet.paste(picture, (number % columns * side, number // columns * side))
    return sheet


def main() -> None:
    """Render and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the picture, PNG or JPEG")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; they count up")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of each phantom")
    parser.add_argument("--family", type=Family, choices=list(Family), default=Family.TRAINING)
    parser.add_argument("--view", type=View, choices=list(View))
    parser.add_argument("--age", type=float, help="years")
    parser.add_argument("--bare", action="store_true", help="without devices and foreign objects")
    given = parser.parse_args()
    images = [
        render_phantom(
            seed,
            given.size,
            given.size,
            family=given.family,
            view=given.view,
            age_years=given.age,
            devices=not given.bare,
            masks=False,
        ).image
        for seed in track(range(given.seed, given.seed + given.count), description="phantoms")
    ]
    contact_sheet(images, side=min(given.size, 512)).save(given.out)


if __name__ == "__main__":
    main()
