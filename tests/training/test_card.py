"""The card promises what is measured, and nothing else."""

from schemas.bundle import Metric, bundle_folder, read_manifest
from training.regeneration.card import write_card


def _section(card: str, heading: str) -> str:
    return card.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_what_no_figure_measures_is_not_said_to_be_decided_well() -> None:
    manifest = read_manifest(bundle_folder(None))
    decided = [str(each.target) for each in manifest.classes if each.operating_point is not None]
    measured, unmeasured = decided[0], decided[1]
    figure = Metric(name=f"AUROC {measured}", value=0.9, low=0.8, high=1.0, n=100)
    card = write_card(manifest.model_copy(update={"metrics": [figure]}))
    good, bad = _section(card, "What it is good for"), _section(card, "What it is not good for")
    assert measured in good and unmeasured not in good
    assert unmeasured in bad and measured not in bad


def test_every_decided_class_of_the_shipped_bundle_has_its_figure() -> None:
    manifest = read_manifest(bundle_folder(None))
    assert "no figure below" not in _section(write_card(manifest), "What it is not good for")
