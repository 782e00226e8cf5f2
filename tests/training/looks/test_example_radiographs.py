from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from schemas.codes import Finding, Segment
from tests.conftest import REAL_DATA
from tests.support.examples import PLACING
from training.examples.placing import BITS
from training.examples.radiographs import read_examples, truth_of_sample
from training.examples.targets import COURSES, TARGETS, VIEW_AP
from training.sources.kermany import Kermany
from training.sources.masks import ArrayMask
from training.sources.source import Course, Sample, View

_ROWS, _COLUMNS = 300, 200


def _read() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((_ROWS, _COLUMNS), 0.5, np.float32)


def _sample(view: View | None = "AP", **changes: Any) -> Sample:
    lungs = np.zeros((_ROWS, _COLUMNS), np.bool_)
    lungs[50:250, 20:80] = True
    lungs[50:200, 120:180] = True
    given: dict[str, Any] = {"labels": {"pneumonia": 1.0, "view.ap": 1.0}, "masks": {"lungs": ArrayMask(lungs)}}
    return Sample(source="test", key="1", patient="1", licence="", read=_read, view=view, **{**given, **changes})


def test_the_patients_right_lung_is_the_one_at_the_images_left() -> None:
    truth = truth_of_sample(_sample(), _ROWS, _COLUMNS)
    right, left = truth.masks[Segment.RIGHT_LUNG], truth.masks[Segment.LEFT_LUNG]
    assert right is not None
    assert left is not None
    assert np.nonzero(right)[1].max() < np.nonzero(left)[1].min()


def test_lungs_that_touch_are_unknown_rather_than_wrong() -> None:
    one = ArrayMask(np.ones((_ROWS, _COLUMNS), np.bool_))
    assert truth_of_sample(_sample(masks={"lungs": one}), _ROWS, _COLUMNS).masks == {}


def test_only_what_somebody_said_is_known_of_a_radiograph() -> None:
    truth = truth_of_sample(_sample(), _ROWS, _COLUMNS)
    assert truth.classes[Finding.PNEUMONIA.value] == 1.0
    assert truth.classes[VIEW_AP] == 1.0
    assert truth.classes["acceptance.frontal_chest"] == 1.0
    assert Finding.NODULE.value not in truth.classes
    assert truth.courses == {}
    assert truth.carina is None
    # Nobody said from which side: it may be a lateral one.
    assert "acceptance.frontal_chest" not in truth_of_sample(_sample(view=None), _ROWS, _COLUMNS).classes


def test_a_lateral_radiograph_teaches_only_that_it_is_one() -> None:
    truth = truth_of_sample(_sample(view="LL"), _ROWS, _COLUMNS)
    assert truth.classes["acceptance.lateral"] == 1.0
    assert Finding.PNEUMONIA.value not in truth.classes
    assert truth.masks == {}


def test_a_drawn_course_has_no_tip_and_a_stated_absence_is_known() -> None:
    line = np.array([[100, 0], [100, 120]], np.float32)
    drawn = truth_of_sample(_sample(courses=(Course("endotracheal_tube", line, None),)), _ROWS, _COLUMNS)
    assert not drawn.courses[Segment.ENDOTRACHEAL_TUBE].tip_known
    absent = truth_of_sample(_sample(labels={"endotracheal_tube.presence": 0.0}), _ROWS, _COLUMNS)
    assert not len(absent.courses[Segment.ENDOTRACHEAL_TUBE].points)
    assert absent.courses[Segment.ENDOTRACHEAL_TUBE].tip_known


def test_real_radiographs_become_examples(tmp_path: Path) -> None:
    folder = REAL_DATA / "cxr" / "kermany_v7_masks"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: no real radiographs to read")
    samples = list(Kermany(folder))[:4]
    with Progress(disable=True) as progress:
        examples = read_examples(samples, tmp_path, PLACING, progress, "Reading")
    assert np.isin(examples.classes[:, TARGETS.index("pneumonia")], (0, 1)).all()
    assert np.isnan(examples.classes[:, TARGETS.index("nodule")]).all()
    assert not examples.courses_known[:, COURSES.index(Segment.ENDOTRACHEAL_TUBE)].any()
    right, left = (examples.masks >> BITS.index(lung) & 1 for lung in (Segment.RIGHT_LUNG, Segment.LEFT_LUNG))
    assert ((right.sum(axis=(1, 2)) > 0) == (left.sum(axis=(1, 2)) > 0)).all()
    assert right.any()
    assert np.isnan(examples.to_detail).all()
