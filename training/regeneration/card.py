"""The model card that travels with a bundle: what it is good for, what not, and its figures. All from the manifest."""

from collections.abc import Iterator

from schemas.bundle import Acceptance, Manifest, Metric, ScoredClass
from schemas.codes import NOT_FOR_CLINICAL_USE
from workers.tube_limits import BORDERLINE_MM, NORMAL_RANGE_MM


def write_card(manifest: Manifest) -> str:
    """Markdown; every figure is the manifest's."""
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"**{NOT_FOR_CLINICAL_USE}.** {_evidence(manifest)}",
        "",
        *_facts(manifest),
        "",
        "## What it is good for",
        "",
        *_good_for(manifest),
        "",
        "## What it is not good for",
        "",
        *_not_good_for(manifest),
        "",
        "## Data",
        "",
        f"{_sentence(str(manifest.training.get('data', 'not stated')))} Phantoms are drawn by code of this project;",
        "seeds, recipe and the digests of code and stages are in the manifest. Learning, calibration and evaluation",
        "used different seeds, and different patients.",
        "",
        *_attribution(manifest),
        "## Classes",
        "",
        "| class | operating point | prevalence and n of its calibration | expected calibration error |",
        "|---|---:|---:|---:|",
        *(_class(scored) for scored in manifest.classes),
        "",
        "Without an operating point a class is reported as undetermined: on validation cases it was no better than",
        "chance, they were too few, most of those without the finding would have been called present, or the recipe",
        "withholds it. A calibration on anything but radiographs of patients makes no probabilities.",
        *_pooled(manifest),
        "",
        "## Figures on frozen cases",
        "",
        "95 % intervals: percentile bootstrap over patients (each phantom is one); of an AUROC, a share or a",
        "sensitivity never without a width (Newcombe's method 5; Clopper and Pearson's). The baseline needs no reading",
        "of the image: of a class a logistic regression on an 8 x 8 thumbnail, of a distance or an outline where it",
        "usually is.",
        *_located(manifest),
        "",
        *_table(manifest, ""),
        *_on_patients(manifest),
        f"Of an adult's endotracheal tube {NORMAL_RANGE_MM[0]:g} to {NORMAL_RANGE_MM[1]:g} mm above the carina are",
        f"normal (Goodman et al., AJR 1976;127:433-434, neck in neutral position); up to {BORDERLINE_MM:g} mm outside",
        "is borderline, farther is malpositioned. Children: by the length of the trachea.",
    ]
    return "\n".join(lines) + "\n"


def _evidence(manifest: Manifest) -> str:
    if any(metric.data for metric in manifest.metrics):
        return (
            "Its figures are on simulated radiographs and, told apart from them, on public radiographs of patients "
            "whom it did not learn from. Those are few, old and selected: nobody has shown that it works on yours."
        )
    if manifest.training.get("attribution"):
        return (
            "Made from simulated radiographs and public ones. Its figures below are on simulated radiographs: nobody "
            "has shown that it works on patients."
        )
    return (
        "Trained and evaluated on simulated radiographs only; nothing is known about its accuracy on patients. It "
        "exists to show that the whole way from receiving an image to sending a result works."
    )


def _facts(manifest: Manifest) -> Iterator[str]:
    population = manifest.population
    yield f"- Made: {manifest.created.isoformat()}; licence: {manifest.licence}"
    size = manifest.preprocessing.size
    yield f"- Backbone: `{manifest.architecture.timm_name}` on {size} x {size} pixels"
    yield from _pretraining(manifest)
    second = manifest.second_look
    if second is not None:
        yield (
            f"- Second look: {second.crop} x {second.crop} pixels above the carina, of the image placed in "
            f"{second.detail_size} x {second.detail_size}"
        )
    age = "any age" if population.minimum_age_years is None else f"age from {population.minimum_age_years} years"
    yield f"- Made for: {age}, views {', '.join(population.view_positions)}"
    yield f"- Regions and landmarks: {', '.join(manifest.channels)}"
    undetermined = [scored.target for scored in manifest.classes if scored.operating_point is None]
    yield f"- Reported as undetermined: {', '.join(undetermined) or 'none'}"


def _pretraining(manifest: Manifest) -> Iterator[str]:
    begun = manifest.training.get("pretraining")
    if begun:
        yield (
            f"- The backbone was pre-trained without labels: {begun['method']}, recipe {begun['recipe']} "
            f"{begun['version']}, on {begun['data']}"
        )


def _good_for(manifest: Manifest) -> Iterator[str]:
    yield "- Trying the node, its results and its worklist, and building on them."
    yield "- Being made anew from other data (`chexnode train regenerate`), and as the first that others must match."
    decided = [str(scored.target) for scored in manifest.classes if scored.operating_point is not None]
    measured = [target for target in decided if "" in _measured_on(target, manifest)]
    if measured:
        yield f"- On simulated radiographs, deciding: {', '.join(measured)}; the figures below say how well."


def _not_good_for(manifest: Manifest) -> Iterator[str]:
    yield "- Any decision about a patient."
    yield (
        "- Films unlike its data: other devices, positions, diseases and post-processing than were simulated; children "
        "where the population above says adults; lateral views."
    )
    if not any(scored.target == Acceptance.FRONTAL_CHEST for scored in manifest.classes):
        yield "- Images that are no frontal chest radiograph: it does not notice."
    yield "- Estimating how likely a finding is: no score was calibrated on patients."
    unmeasured = []
    for target in (str(scored.target) for scored in manifest.classes if scored.operating_point is not None):
        data = _measured_on(target, manifest)
        if not data:
            unmeasured.append(target)
        elif "" not in data:
            yield f"- Deciding {target} on other films than those of its figures: {', '.join(sorted(data))}."
    if unmeasured:
        yield f"- Deciding {', '.join(unmeasured)}: no figure below says how well it does, so nobody knows."


def _measured_on(target: str, manifest: Manifest) -> set[str]:
    """On what (`Metric.data`; "" are the frozen cases) a figure says how well the class is answered."""
    if target not in list(Acceptance):
        return {metric.data for metric in manifest.metrics if metric.name == f"AUROC {target}"}
    # Frozen cases are frontal chests; of what is none the shares that are refused are stated.
    return {metric.data for metric in manifest.metrics if metric.name.startswith("other images refused, ")}


def _pooled(manifest: Manifest) -> Iterator[str]:
    """Calibration and operating points are those of all data together, and that is not what a department has."""
    fitted_on = {scored.calibration.data for scored in manifest.classes if scored.calibration is not None}
    for data in sorted(fitted_on):
        yield f"Calibrations and operating points were fitted to {data}, all of them together: on films of one"
        yield "source alone, and on those of a department, sensitivity and calibration error are others"
        yield "(`chexnode train calibrate` fits them to local labels)."


def _located(manifest: Manifest) -> Iterator[str]:
    located = next((each for each in manifest.metrics if each.name.startswith("tube tip located, share")), None)
    if located is not None:
        yield (
            f"Errors of points are of those that were located: {100 * located.value:.1f} % of the tips of "
            "endotracheal tubes."
        )


def _on_patients(manifest: Manifest) -> Iterator[str]:
    """A table for each data that figures are on beside the frozen cases."""
    for data in dict.fromkeys(metric.data for metric in manifest.metrics if metric.data):
        yield f"## Figures on {data}"
        yield ""
        yield "Of these patients nothing was learned, neither weights nor thresholds; letters and corners of their"
        yield "films are taken away. Baselines and probes are fitted on other patients of the same source. A probe is a"
        yield "logistic regression on the bundle's frozen features: what they hold, not what results state."
        yield ""
        yield from _table(manifest, data)


def _table(manifest: Manifest, data: str) -> Iterator[str]:
    yield "| figure | value | 95 % interval | n | baseline |"
    yield "|---|---:|---|---:|---:|"
    yield from (_figure(each) for each in manifest.metrics if each.data == data)
    yield ""


def _attribution(manifest: Manifest) -> Iterator[str]:
    sources = manifest.training.get("attribution") or []
    if not sources:
        return
    yield "### Attribution"
    yield ""
    yield "Radiographs of these sources were learned from; none of them is in this bundle. Where a licence asks to name"
    yield "authors, each article is named by its DOI or its page, on which its authors are."
    yield ""
    for source in sources:
        yield f"- {source}"
    yield ""


def _class(scored: ScoredClass) -> str:
    point = "undetermined" if scored.operating_point is None else f"{scored.operating_point:.3f}"
    made, error = "not calibrated", ""
    if scored.calibration is not None:
        made = f"{scored.calibration.prevalence:.3f}, {scored.calibration.n}"
        if scored.calibration.expected_calibration_error is not None:
            error = f"{scored.calibration.expected_calibration_error:.3f}"
    return f"| {scored.target} | {point} | {made} | {error} |"


def _figure(metric: Metric) -> str:
    baseline = "" if metric.baseline is None else f"{metric.baseline:.3f}"
    return f"| {metric.name} | {metric.value:.3f} | {metric.low:.3f} to {metric.high:.3f} | {metric.n} | {baseline} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
