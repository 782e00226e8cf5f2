"""The model card that travels with a bundle."""

from schemas.bundle import Manifest
from schemas.codes import NOT_FOR_CLINICAL_USE


def write_card(manifest: Manifest) -> str:
    """Markdown; every figure is the manifest's."""
    population = manifest.population
    rows = [
        f"| {m.name} | {m.value:.3f} | {m.low:.3f} to {m.high:.3f} | {m.n} | "
        + ("" if m.baseline is None else f"{m.baseline:.3f}")
        + " |"
        for m in manifest.metrics
    ]
    return f"""# {manifest.name} {manifest.version}

**{NOT_FOR_CLINICAL_USE}.** Trained and evaluated on simulated radiographs only; nothing is known about its accuracy on
patients. It exists to show that the whole way from receiving an image to sending a result works.

- Made: {manifest.created.isoformat()}; licence: {manifest.licence}
- Backbone: `{manifest.architecture.timm_name}` on {manifest.preprocessing.size} x {manifest.preprocessing.size} pixels
- Made for: age from {population.minimum_age_years} years, views {", ".join(population.view_positions)}
- Classes: {", ".join(scored.target for scored in manifest.classes)}
- Regions and landmarks: {", ".join(manifest.channels)}
- Scores are not calibrated and are no probabilities; operating points maximise Youden's J on validation phantoms.
- Reported as undetermined, because no better than chance on validation phantoms: {_undetermined(manifest)}

## Data

Phantoms are drawn by the code in `training/phantom`; seeds and the code's digest are in the manifest. Learning,
choice of operating points and evaluation used different seeds. A real film differs in everything a simulation
leaves out: other devices, patient positioning, disease, post-processing.

## Figures on fresh phantoms

95 % intervals: percentile bootstrap over images. The baseline is a logistic regression on an 8 x 8 thumbnail.

| figure | value | 95 % interval | n | baseline |
|---|---:|---|---:|---:|
{chr(10).join(rows)}

A tube counts as malpositioned when its tip is less than 20 mm or more than 80 mm above the carina along the image
(normal in adults 30 to 70 mm with the neck in neutral position, Goodman et al., AJR 1976;127:433-434; up to 10 mm
outside is borderline).
"""


def _undetermined(manifest: Manifest) -> str:
    classes = [scored.target for scored in manifest.classes if scored.operating_point is None]
    return ", ".join(classes) or "none"
