"""Re-heading: a bundle for other classes, made from one that there is. Called by `chexnode bundle rehead`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from schemas.bundle import Manifest
from schemas.errors import BundleMakingError
from workers.bundle import CARD_FILE, SELFTEST_FILE, LoadedBundle, write_bundle
from workers.checkpoints.card import classes_section
from workers.checkpoints.classes import scored_classes
from workers.networks.network import build_network


def rehead(
    bundle: LoadedBundle,
    classes: Sequence[str],
    out: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    seed: int = 0,
) -> LoadedBundle:
    """Write a bundle whose head has exactly these classes, in this order, and load it back.

    A class that stays keeps its tensors, operating point and calibration; a new one gets fresh tensors drawn from
    `seed` and no operating point. Figures of the old bundle are of its classes and are not carried over.

    Raises BundleMakingError when the bundle has no head that classifies, or when the names cannot be classes.
    """
    manifest, head = bundle.manifest, bundle.manifest.classifier
    if head is None or bundle.network.classifier is None:
        raise BundleMakingError(f"{bundle.folder} has no head that classifies; there is nothing to give other classes.")
    present: list[str] = [scored.target for scored in head.classes]
    fresh = scored_classes(classes, {})
    rows = [present.index(each) if each in present else None for each in classes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = bundle.network.classifier.with_classes(rows)
    scored = [fresh[i] if row is None else head.classes[row] for i, row in enumerate(rows)]
    untrained = [each.target for each, row in zip(scored, rows, strict=True) if row is None]
    changed = {
        "name": name or manifest.name,
        "version": version or f"{manifest.version}+rehead",
        "created": datetime.now(UTC).date(),
        "heads": [each.model_copy(update={"classes": scored}) if each is head else each for each in manifest.heads],
        "metrics": [],
        "training": {**manifest.training, "reheaded_from": bundle.digest, "untrained_classes": untrained},
    }
    try:
        # model_copy checks nothing.
        made = Manifest.model_validate(manifest.model_copy(update=changed).model_dump())
    except ValidationError as error:
        raise BundleMakingError(f"The re-headed bundle would not be one: {error}") from error
    with torch.device("meta"):
        network = build_network(made)
    network.backbone, network.classifier, network.dense = bundle.network.backbone, classifier, bundle.network.dense
    network.second_look = bundle.network.second_look
    with np.load(bundle.folder / SELFTEST_FILE, allow_pickle=False) as stored:
        images, tolerance = stored["images"], float(stored["tolerance"])
    card = _card(bundle, made, untrained)
    return write_bundle(out, made, network.eval(), card, images, storage=torch.float32, tolerance=tolerance)


def _card(bundle: LoadedBundle, made: Manifest, untrained: list[str]) -> str:
    old = (bundle.folder / CARD_FILE).read_text(encoding="utf-8")
    lines = [
        f"# {made.name} {made.version}",
        "",
        "**Not for clinical use.** Made from another bundle by giving its head other classes.",
        "",
        f"- From: {bundle.manifest.name} {bundle.manifest.version}, digest {bundle.digest}",
        f"- Untrained, so its scores mean nothing yet: {', '.join(untrained) or 'no class'}",
        "",
        *classes_section(made.classes),
        "## Card of the bundle that it was made from",
        "",
        "Figures and classes below are that bundle's.",
        "",
        *(f"> {line}".rstrip() for line in old.splitlines()),
    ]
    return "\n".join(lines) + "\n"
