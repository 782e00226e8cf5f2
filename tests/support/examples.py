"""Drawings that stand for chest radiographs in tests of learning: simple, quick, and true to the pixel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.bundle import Acceptance
from schemas.codes import Finding, Segment
from schemas.preprocessing import Intensity, Preprocessing
from schemas.result import Point
from training.examples.filling import Pictured, Placing
from training.examples.placing import Course, Truth, write_example
from training.examples.store import Examples, create_examples
from training.examples.targets import acceptance_classes

ROWS, COLUMNS = 600, 480
PREPROCESSING = Preprocessing(profile="letterbox", size=64, intensity=Intensity.STRETCH, mean=(0.5,), std=(0.25,))
PLACING = Placing(PREPROCESSING, detail_size=1024)
_NONE = Course(np.zeros((0, 2), np.float32), 0.0, None)


@dataclass(frozen=True)
class Drawing:
    """Two dark lungs on a grey chest, a carina; every other one has a tube and an effusion in its left lung."""

    #: A file is made here for each index that is drawn; None: nowhere.
    log: Path | None = None

    def __call__(self, index: int) -> Pictured:
        if self.log is not None:
            with (self.log / f"{index}").open("a") as stream:
                stream.write("drawn\n")
        rng = np.random.default_rng(index)
        image = np.full((ROWS, COLUMNS), 0.55, np.float32) + np.linspace(0, 0.1, ROWS, dtype=np.float32)[:, None]
        right, left = np.zeros((2, ROWS, COLUMNS), np.bool_)
        right[150:450, 60:200] = True
        left[150:420, 280:420] = True
        image[right | left] = 0.2
        effusion = np.zeros((ROWS, COLUMNS), np.bool_)
        effusion[360:420, 280:420] = True
        carina = Point(x=240, y=260)
        tube, tip = _NONE, None
        intubated = index % 2 == 0
        if intubated:
            tip = Point(x=238, y=float(rng.integers(130, 240)))
            rows = np.arange(10, tip.y + 0.5)
            tube = Course(np.column_stack([np.full(len(rows), tip.x), rows]).astype(np.float32), 6.0, tip)
            image[10 : round(tip.y), 235:242] = 0.95
            image[effusion] = 0.6
        image += 0.01 * rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        truth = Truth(
            {
                Finding.PLEURAL_EFFUSION.value: float(intubated),
                "endotracheal_tube.presence": float(intubated),
                "view.ap": float(index % 3 == 0),
                **acceptance_classes(Acceptance.FRONTAL_CHEST),
            },
            {
                Segment.RIGHT_LUNG: right,
                Segment.LEFT_LUNG: left,
                Finding.PLEURAL_EFFUSION: effusion if intubated else None,
            },
            {
                Segment.ENDOTRACHEAL_TUBE: tube,
                Segment.NASOGASTRIC_TUBE: _NONE,
                Segment.CENTRAL_VENOUS_CATHETER: _NONE,
            },
            carina,
        )
        return Pictured(image.clip(0, 1), truth)


def drawn_examples(folder: Path, count: int) -> Examples:
    """The first drawings as examples."""
    examples = create_examples(folder, count, PREPROCESSING.size)
    for index in range(count):
        made = Drawing()(index)
        write_example(examples, index, made.image, made.truth, PLACING.preprocessing, PLACING.detail_size)
    return examples
