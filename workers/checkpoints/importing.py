"""From published weights to a bundle: manifest, card, self-test. Called by import_command.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from schemas.bundle import ClassificationHead, GloriHead, LinearHead, Manifest, Population, ScoredClass
from schemas.codes import Device
from schemas.errors import BundleMakingError
from schemas.preprocessing import PROFILES, Fit, Preprocessing
from workers.bundle import LoadedBundle, write_bundle
from workers.checkpoints.card import card_text
from workers.checkpoints.classes import default_names, scored_classes
from workers.checkpoints.systems import CHEXFOUND, System, chexfound_licence
from workers.checkpoints.weights import BackboneWeights, HeadWeights
from workers.networks.network import Network, build_network

#: Greatest difference of an output that another computer may show in float32.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ImportOptions:
    """What the weights do not say."""

    name: str
    version: str
    #: "published": as the profile has it; None: that, or letterbox when a tube is among the classes.
    fit: Literal["letterbox", "published"] | None = None
    #: Side of the network's input in pixels; None: as trained.
    size: int | None = None
    #: None: the published ones.
    classes: list[str] | None = None
    operating_points: dict[str, float | None] = field(default_factory=dict)
    minimum_age_years: int | None = 18
    view_positions: tuple[Literal["PA", "AP"], ...] = ("PA", "AP")
    #: None: what the system's source states.
    licence: str | None = None


def import_bundle(
    out: Path,
    system: System,
    backbone: BackboneWeights,
    head: HeadWeights | None,
    options: ImportOptions,
    stage: Callable[[str], None],
) -> LoadedBundle:
    """Write a float32 bundle of a backbone and perhaps a head, and load it back.

    Parameters
    ----------
    stage : called with a few words as each of the long steps begins

    Raises BundleMakingError when the options do not fit the weights.
    """
    stage("describing the network")
    manifest = _manifest(system, backbone, head, options)
    network = _network(manifest, backbone, head)
    stage("writing the bundle and running it on its self-test")
    images = selftest_images(manifest.preprocessing.size)
    card = card_text(manifest, system, backbone, head)
    return write_bundle(out, manifest, network, card, images, storage=torch.float32, tolerance=_TOLERANCE)


def selftest_images(size: int) -> NDArray[np.uint8]:
    """One image uint8 [1, size, size], always the same: blots of every width, as a network's input has them."""
    generator = np.random.default_rng(0)
    image = np.zeros((size, size))
    for cells in (2, 4, 8, 16, 32):
        side = -(-size // cells)
        image += np.kron(generator.random((cells, cells)), np.ones((side, side)))[:size, :size]
    images: NDArray[np.uint8] = (image * (255 / image.max())).astype(np.uint8)[None]
    return images


def _manifest(system: System, backbone: BackboneWeights, head: HeadWeights | None, options: ImportOptions) -> Manifest:
    classes = _classes(head, options)
    devices = [device for device in Device if any(c.target.startswith(f"{device.value}.") for c in classes)]
    sources = [*backbone.sources, *(head.sources if head else [])]
    left_out = [*backbone.left_out, *(head.left_out if head else [])]
    arguments = dict(backbone.architecture.arguments)
    if head is not None and head.kind == "glori":
        depth = arguments["depth"]
        arguments["out_indices"] = list(range(depth - head.blocks, depth))
    try:
        return Manifest(
            name=options.name,
            version=options.version,
            created=datetime.now(UTC).date(),
            architecture=backbone.architecture.model_copy(update={"arguments": arguments}),
            preprocessing=_preprocessing(system, backbone, options, tubes=bool(devices)),
            heads=[] if head is None else [_head(head, classes)],
            population=Population(
                minimum_age_years=options.minimum_age_years,
                view_positions=list(options.view_positions),
                devices=devices,
            ),
            training={
                "data": f"imported weights of {system.title}; {system.source}",
                "system": system.name,
                "sources": [{"file": each.name, "bytes": each.size, "sha256": each.sha256} for each in sources],
                "head": head.name if head else "",
                "left_out": [{"tensors": each.count, "what": each.why, "example": each.example} for each in left_out],
            },
            licence=options.licence or _licence(system, backbone),
            unproven=system.unproven,
        )
    except ValidationError as error:
        raise BundleMakingError(f"The options make no bundle: {error}") from error


def _licence(system: System, backbone: BackboneWeights) -> str:
    source = backbone.sources[0]
    return chexfound_licence(source.name, source.sha256) if system is CHEXFOUND else system.licence


def _classes(head: HeadWeights | None, options: ImportOptions) -> list[ScoredClass]:
    if head is None:
        if options.classes or options.operating_points:
            raise BundleMakingError("Classes and operating points need a head, and these weights have none.")
        return []
    names = options.classes or default_names(head.classes)
    if len(names) != head.classes:
        raise BundleMakingError(
            f"The head has {head.classes} classes, but {len(names)} names are given. Name all of its outputs in order; "
            "to give it other classes, import it with its own and use chexnode bundle rehead."
        )
    return scored_classes(names, options.operating_points)


def _head(head: HeadWeights, classes: list[ScoredClass]) -> ClassificationHead:
    file = f"heads/{head.kind}.safetensors"
    if head.kind == "glori":
        return GloriHead(file=file, arguments=head.arguments, classes=classes)
    return LinearHead(file=file, arguments=head.arguments, classes=classes)


def _preprocessing(system: System, backbone: BackboneWeights, options: ImportOptions, tubes: bool) -> Preprocessing:
    published = PROFILES[system.name]
    trained = backbone.architecture.arguments.get("img_size", published.size)
    size = trained if options.size is None else options.size
    if size % 16:
        raise BundleMakingError(f"A size of {size} pixels is not made of whole patches: take a multiple of 16.")
    changed: dict[str, object] = {"size": size}
    if published.resize is not None:
        changed["resize"] = round(published.resize * size / published.size)
    if options.fit == "letterbox" or (options.fit is None and tubes):
        # What is shown whole is shown without the bars that a console put around it.
        changed |= {"fit": Fit.LETTERBOX, "resize": None, "cut_bars": True}
    channels = backbone.architecture.arguments["in_chans"]
    if channels != published.channels:
        raise BundleMakingError(
            f"The network takes {channels} channels, those of {system.name} take {published.channels}."
        )
    return Preprocessing.model_validate(published.model_dump() | changed)


def _network(manifest: Manifest, backbone: BackboneWeights, head: HeadWeights | None) -> Network:
    """The network with the file's own tensors, not copies: a large file is in memory once."""
    with torch.device("meta"):
        network = build_network(manifest)
    network.backbone.load_state_dict(backbone.tensors, strict=True, assign=True)
    if head is not None and network.classifier is not None:
        network.classifier.load_state_dict(head.tensors, strict=True, assign=True)
    return network.eval()
