"""What decides a curation besides the images: a part of a recipe, or the options of `chexnode train curate`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from training.curation.split import SplitShares
from training.sources.source import View


class CurationSettings(BaseModel):
    """Equal settings on equal images give an equal manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shares: SplitShares = SplitShares()
    #: Draws the splits and the pseudonyms in the manifest. With patients of a department keep it secret.
    key: str = "chexnode"
    #: Images whose known view is another are left out; those of unknown view stay.
    views: tuple[View, ...] = ("PA", "AP")
    #: Shorter side in pixels.
    least_side: Annotated[int, Field(ge=1)] = 160
    #: Sides of the squares that are taken away at the corners, as a share of the shorter side; letters near the borders
    #: are taken away in any case.
    corners: Annotated[float, Field(ge=0, le=0.3)] = 0.08
    #: Only images under licences that ask for attribution at most (training.curation.quality.is_clean).
    clean_only: bool = False
