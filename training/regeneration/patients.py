"""Figures and pictures of a bundle on the test patients of the sources that were given. Called by look_making.py."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from schemas.bundle import Metric
from schemas.errors import BundleMakingError
from training.curation.curate import Curation, curate
from training.curation.settings import CurationSettings
from training.evaluation.radiographs import evaluate_radiographs
from training.regeneration.film_pictures import save_films
from training.sources.catalogue import Named, open_folder
from training.sources.source import Split
from workers.bundle import LoadedBundle

#: Parts of a curation that weights and thresholds are made of.
LEARNED: tuple[Split, ...] = ("train", "val")
_CURATION = "curation"


def measured_on(settings: CurationSettings) -> CurationSettings:
    """Whom to measure on, beside training with these `settings`: also films whose licence keeps them out of weights."""
    return settings.model_copy(update={"clean_only": False})


def measure_on_patients(
    bundle: LoadedBundle, given: Sequence[Named], learned: Curation, curated: Path, folder: Path, progress: Progress
) -> list[Metric]:
    """The figures; PNG files go to `folder`.

    Parameters
    ----------
    learned, curated : the curation that training and calibration had, and its folder

    Raises BundleMakingError when somebody was learned from whom the figures would be of.
    """
    # What each file looks like is known from there. Patients have their sides by name, so that they keep them.
    shutil.copytree(curated, folder / _CURATION, ignore=shutil.ignore_patterns("stage.json"), dirs_exist_ok=True)
    sources = [open_folder(each) for each in given]
    curation = curate(sources, measured_on(learned.settings), folder / _CURATION, progress)
    known = {(each.source, each.patient) for part in LEARNED for each in learned.part(part)}
    if met := known & {(each.source, each.patient) for each in curation.part("test")}:
        raise BundleMakingError(
            f"{len(met)} patients were learned from and would be tested on: remove the stages 'curate' and "
            "'radiographs' from the cache and make the bundle anew."
        )
    figures = evaluate_radiographs(bundle, curation, {each.name: each.kind for each in given}, progress)
    save_films(bundle, curation, learned, folder)
    return figures
