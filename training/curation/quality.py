"""Why an image is left out by itself: its size, its contrast, its view, its licence."""

import re

from training.curation.fingerprint import Fingerprint
from training.curation.settings import CurationSettings
from training.sources.source import Sample

#: Longer side over shorter side (a small child's chest: up to 2.4); beyond, it is a strip, or films in a row.
_LONGEST = 3.0
#: Between the 5th and the 95th percentile of the greys: a blank or nearly black image has less.
_LEAST_CONTRAST = 0.05

#: "CC BY 4.0", "CC-BY", "CC0", "public domain", "no restrictions"; not NC (non-commercial), ND (no derivatives) or SA.
_CLEAN = re.compile(r"\s*(CC0|CC[ -]BY(?![ -]?(NC|ND|SA))|public domain|no restrictions)", re.IGNORECASE)


def is_clean(licence: str) -> bool:
    """Whether weights that learned from it may be shipped: attribution at most is asked for. Nothing stated is not."""
    return _CLEAN.match(licence) is not None and not re.search(r"\b(NC|ND|SA)\b", licence)


def unusable(sample: Sample, seen: Fingerprint, settings: CurationSettings) -> str | None:
    """The reason in a few words; None when it is usable."""
    if settings.clean_only and not is_clean(sample.licence):
        return "licence"
    if sample.view is not None and sample.view not in settings.views:
        return f"view {sample.view}"
    if min(seen.rows, seen.columns) < settings.least_side:
        return f"smaller than {settings.least_side} pixels"
    if max(seen.rows, seen.columns) > _LONGEST * min(seen.rows, seen.columns):
        return "too long and narrow"
    if seen.contrast < _LEAST_CONTRAST:
        return "no contrast"
    return None
