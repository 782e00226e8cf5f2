"""The card promises what is measured, and nothing else."""

from schemas.bundle import Calibration, Manifest, Metric, bundle_folder, read_manifest
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


def _measured(manifest: Manifest, *metrics: Metric) -> str:
    return write_card(manifest.model_copy(update={"metrics": list(metrics)}))


def test_figures_on_patients_have_a_table_of_their_own_and_do_not_stand_for_simulated_ones() -> None:
    manifest = read_manifest(bundle_folder(None))
    decided = next(str(each.target) for each in manifest.classes if each.operating_point is not None)
    frozen = Metric(name="Dice lungs, mean", value=0.97, low=0.96, high=0.98, n=500, baseline=0.7)
    real = Metric(name=f"AUROC {decided}", value=0.75, low=0.6, high=0.9, n=83, data="test patients of kermany")
    card = _measured(manifest, frozen, real)
    assert "0.970" in _section(card, "Figures on frozen cases") and "0.750" not in _section(
        card, "Figures on frozen cases"
    )
    assert "| 0.750 | 0.600 to 0.900 | 83 |" in _section(card, "Figures on test patients of kermany")
    assert decided not in _section(card, "What it is good for")
    assert f"Deciding {decided} on other films" in _section(card, "What it is not good for")


def test_the_card_says_of_how_many_points_errors_are_and_that_calibration_pools_all_data() -> None:
    manifest = read_manifest(bundle_folder(None))
    located = Metric(name="tube tip located, share", value=0.953, low=0.9, high=0.98, n=200)
    assert "95.3 % of the tips" in " ".join(_measured(manifest, located).split())
    fitted = Calibration(slope=1, intercept=0, prevalence=0.2, n=500, data="validation cases of A; B", real=False)
    head = manifest.classifier
    assert head is not None
    pooled = head.model_copy(
        update={"classes": [each.model_copy(update={"calibration": fitted}) for each in head.classes]}
    )
    card = write_card(manifest.model_copy(update={"heads": [pooled, manifest.dense]}))
    assert card.count("fitted to validation cases of A; B, all of them together") == 1
