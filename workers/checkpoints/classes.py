"""Which class each output of an imported head is, and its operating point. Called by importing.py and rehead.py."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from schemas.bundle import ScoredClass, TubeTarget
from schemas.codes import CXR_LT, Finding
from schemas.errors import BundleMakingError


def class_names(option: str) -> list[str]:
    """Names from the command line: commas between them, or a file with one per line.

    Raises BundleMakingError when the file cannot be read or there is no name.
    """
    path = Path(option)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else option.replace(",", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleMakingError(f"The classes in {option} cannot be read: {error}") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise BundleMakingError(f"{option!r} names no class.")
    return names


def default_names(count: int) -> list[str]:
    """The published order for a head of 40 classes (CXR-LT 2024), else class_00, class_01, ..."""
    if count == len(CXR_LT):
        return [finding.value for finding in CXR_LT]
    return [f"class_{index:02d}" for index in range(count)]


def scored_classes(names: Sequence[str], operating_points: Mapping[str, float | None]) -> list[ScoredClass]:
    """Classes of a manifest in this order, uncalibrated.

    Raises BundleMakingError for a name that cannot be one or comes twice, and for an operating point of no class or
    that is not between 0 and 1.
    """
    if unknown := sorted(set(operating_points) - set(names)):
        raise BundleMakingError(f"There are operating points for what is no class: {', '.join(unknown)}.")
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise BundleMakingError(f"Classes that come twice: {', '.join(twice)}.")
    classes = []
    for name in names:
        try:
            classes.append(ScoredClass.model_validate({"target": name, "operating_point": operating_points.get(name)}))
        except ValidationError as error:
            raise BundleMakingError(
                f"{name!r} with operating point {operating_points.get(name)} is no class: names are of a-z, 0-9, _ and "
                ". and operating points lie between 0 and 1."
            ) from error
    return classes


def in_results(target: str) -> bool:
    """Whether results say anything of a class: it is a finding of the vocabulary, or the tube's."""
    return target in {*Finding, *get_args(TubeTarget)}


def read_operating_points(path: Path) -> dict[str, float | None]:
    """Thresholds from a JSON object {class: number or null}. Raises BundleMakingError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleMakingError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in content.values()
    ):
        raise BundleMakingError(f'{path} is no object of numbers such as {{"pneumothorax": 0.4}}.')
    return {str(name): value for name, value in content.items()}
