"""The card of an imported bundle. Called by importing.py and rehead.py."""

from schemas.bundle import Manifest, ScoredClass
from schemas.codes import Device, Finding
from schemas.preprocessing import Fit, Intensity
from workers.checkpoints.systems import System
from workers.checkpoints.weights import BackboneWeights, HeadWeights

_FITS = {
    Fit.LETTERBOX: "the whole image in a square, its longer side to the square's, the rest black",
    Fit.CENTRE_CROP: "shorter side to {resize} pixels, then the central square: a long film loses its edges",
    Fit.SQUASH: "both sides to the square's, whatever the shape",
}
_INTENSITIES = {
    Intensity.WINDOW: "grey values of the image's own window, 0 to 1",
    Intensity.MIN_MAX: "darkest pixel 0, brightest 1",
    Intensity.PERCENTILE_99: "clipped at the 99th percentile, then darkest pixel 0, brightest 1",
    Intensity.STRETCH: "5th percentile 0.05, 95th 0.95",
}


def card_text(manifest: Manifest, system: System, backbone: BackboneWeights, head: HeadWeights | None) -> str:
    """Markdown: source, licence, preprocessing, classes with codes, limits."""
    preprocessing = manifest.preprocessing
    population = manifest.population
    age = "any age" if population.minimum_age_years is None else f"age from {population.minimum_age_years} years"
    fit = _FITS[preprocessing.fit].format(resize=preprocessing.resize or preprocessing.size)
    sources = [*backbone.sources, *(head.sources if head else [])]
    left_out = [*backbone.left_out, *(head.left_out if head else [])]
    values = sum(tensor.numel() for tensor in backbone.tensors.values())
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        "**Not for clinical use.** Imported weights; nobody has evaluated this bundle on this site's patients.",
        *([f"**Unproven.** {manifest.unproven}"] if manifest.unproven else []),
        "",
        f"- Model: {system.title}",
        f"- Source: {system.source}",
        f"- Licence of the weights: {manifest.licence}",
        f"- Imported: {manifest.created}",
        f"- Made for: {age}, views {', '.join(population.view_positions)} (chosen at import)",
        f"- Backbone: `{manifest.architecture.timm_name}`, {values:,} values",
        f"- Head: {_head(head)}",
        "",
        "## Files",
        "",
        *(f"- {each.name}, {each.size:,} bytes, SHA-256 {each.sha256}" for each in sources),
        *(f"- left out: {each.why} ({each.count}, for example `{each.example}`)" for each in left_out),
        "",
        "## Preprocessing",
        "",
        f"- {preprocessing.size} x {preprocessing.size} pixels, {preprocessing.channels} channel(s); {fit}",
        f"- {preprocessing.resampling.value} resampling; {_INTENSITIES[preprocessing.intensity]}",
        f"- mean {_numbers(preprocessing.mean)}, standard deviation {_numbers(preprocessing.std)}",
        "",
        *classes_section(manifest.classes),
        "## Limits",
        "",
        "- Scores are not calibrated and are no probabilities.",
        "- A class without operating point is reported as undetermined, a class without code not at all.",
        *(f"- {each}" for each in system.limits),
    ]
    return "\n".join(lines) + "\n"


def classes_section(classes: list[ScoredClass]) -> list[str]:
    """Lines of a table: outputs in their order with code and operating point; none without classes."""
    if not classes:
        return []
    return [
        "## Classes",
        "",
        "| output | class | code | operating point |",
        "|---:|---|---|---:|",
        *(f"| {index} | {each.target} | {_code(each)} | {_point(each)} |" for index, each in enumerate(classes)),
        "",
    ]


def _code(scored: ScoredClass) -> str:
    if not isinstance(scored.target, Finding):
        device = next((each for each in Device if scored.target.startswith(f"{each}.")), None)
        return "none: not reported" if device is None else f"see {device.code.meaning.lower()}"
    code = scored.target.code
    return f"{code.value} ({code.scheme}, {code.meaning})"


def _point(scored: ScoredClass) -> str:
    return "none" if scored.operating_point is None else f"{scored.operating_point:.4f}"


def _head(head: HeadWeights | None) -> str:
    if head is None:
        return "none; a backbone only, which gives no findings"
    return f"{head.kind}, {head.classes} classes" + (f", `{head.name}` of the file" if head.name else "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
