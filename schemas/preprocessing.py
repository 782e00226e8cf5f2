"""Preprocessing profiles: from a radiograph, float32 0..1 in MONOCHROME2 sense, to a network's normalised input.

Data only; workers/placement.py and workers/preparation.py carry it out. A bundle's manifest holds a whole
`Preprocessing`, so that a profile that is changed here changes no bundle that exists.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Fit(StrEnum):
    """How an image of any shape comes into a square."""

    #: The whole image, longer side = size, centred; the rest is filled with 0 before normalisation.
    LETTERBOX = "letterbox"
    #: Shorter side = `resize`, then the central square of `size`: what lies outside of it the model does not see.
    CENTRE_CROP = "centre_crop"
    #: Both sides = size, whatever the shape.
    SQUASH = "squash"


class Intensity(StrEnum):
    """What becomes of the grey values, over the part of the image that the model sees."""

    #: As read: the VOI window's black is 0, its white is 1.
    WINDOW = "window"
    #: The darkest pixel is 0, the brightest 1; a constant image is 0.
    MIN_MAX = "min_max"
    #: Clipped from above at the 99th percentile, then as MIN_MAX.
    PERCENTILE_99 = "percentile_99"
    #: The 5th percentile becomes 0.05 and the 95th 0.95, linearly, clipped to 0..1: what another VOI window does to the
    #: greys is mostly undone.
    STRETCH = "stretch"


class Resampling(StrEnum):
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


class Preprocessing(BaseModel):
    """From a float32 image [rows, columns] in 0..1 to the network's input float32 [len(mean), size, size]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Name of the profile that it was made from, for people.
    profile: str
    size: Annotated[int, Field(ge=32, le=2048)]
    #: Whether bars at the image's sides (collimation, padding: workers/bars.py) are cut off first. The published
    #: systems do not: to them bars are image.
    cut_bars: bool = True
    fit: Fit = Fit.LETTERBOX
    #: With CENTRE_CROP: the length of the shorter side before the crop; None: `size`.
    resize: Annotated[int, Field(ge=32, le=4096)] | None = None
    resampling: Resampling = Resampling.BILINEAR
    intensity: Intensity = Intensity.WINDOW
    #: One value per channel; of a network with three channels each gets the same grey image.
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) == 2:
            raise ValueError("mean and std need one value each for one channel, or three for three")
        if self.resize is not None and (self.fit is not Fit.CENTRE_CROP or self.resize < self.size):
            raise ValueError("resize goes with fit = centre_crop and is not below size")
        return self

    @property
    def channels(self) -> int:
        return len(self.mean)


#: Mean and standard deviation of ImageNet's channels, which three of the four systems normalise with.
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

#: What each system was published with (sources: docs/foundation-models.md), and the project's own.
PROFILES = {
    "letterbox": Preprocessing(profile="letterbox", size=384, mean=(0.5,), std=(0.25,)),
    "chexfound": Preprocessing.model_validate(
        {
            "profile": "chexfound",
            "size": 512,
            "cut_bars": False,
            "fit": Fit.CENTRE_CROP,
            "resampling": Resampling.BICUBIC,
            "intensity": Intensity.MIN_MAX,
            **_IMAGENET,
        }
    ),
    "chess": Preprocessing(
        profile="chess",
        size=512,
        cut_bars=False,
        fit=Fit.SQUASH,
        intensity=Intensity.PERCENTILE_99,
        mean=(0.658,),
        std=(0.221,),
    ),
    "mae": Preprocessing.model_validate(
        {
            "profile": "mae",
            "size": 224,
            "cut_bars": False,
            "fit": Fit.CENTRE_CROP,
            "resize": 256,
            "resampling": Resampling.BICUBIC,
            **_IMAGENET,
        }
    ),
    "gmml": Preprocessing.model_validate(
        {
            "profile": "gmml",
            "size": 224,
            "cut_bars": False,
            "fit": Fit.CENTRE_CROP,
            "resize": 256,
            "resampling": Resampling.BICUBIC,
            **_IMAGENET,
        }
    ),
}
