"""Whom a bundle has to name for the radiographs that it learned from. Called by the makings of recipes."""

from collections.abc import Iterable

from training.curation.manifest import CuratedImage
from training.sources.source import Source


def attributions(source: Source, images: Iterable[CuratedImage]) -> list[str]:
    """The source with its number of images and their licences, then each article that images of it are from.

    Parameters
    ----------
    images : those that were learned from; of other sources too
    """
    of_source = [image for image in images if image.source == source.name]
    licences = ", ".join(sorted({image.licence for image in of_source if image.licence}))
    articles = sorted({image.attribution for image in of_source if image.attribution})
    return [
        f"{source.name}: {len(of_source)} images, {licences or 'licence not stated'}; {source.document}",
        *(f"{source.name}: {article}" for article in articles),
    ]
