"""What of a bundle a backend computes: the first look at whole images, or the second look at crops."""

from dataclasses import dataclass

from torch import nn

from schemas.bundle import LinearHead
from workers.backends.graph import CloserGraph, InferenceGraph
from workers.bundle import LoadedBundle


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a bundle's network with a graph of its own."""

    bundle: LoadedBundle
    #: In the name of its converted model; "" for the first look.
    name: str
    #: Gives `GraphOutput` for float32 [B, side, side] in 0..1.
    graph: nn.Module
    side: int
    #: Names of the outputs that are not empty; a converted model has these only.
    given: tuple[str, ...]


def first_look(bundle: LoadedBundle) -> Part:
    """Backbone and heads over whole images."""
    manifest = bundle.manifest
    head = manifest.classifier
    given = tuple(
        name
        for name, there in (
            ("logits", head is not None),
            ("attention", head is not None and not isinstance(head, LinearHead)),
            ("dense", manifest.dense is not None),
        )
        if there
    )
    graph = InferenceGraph(bundle.network, manifest.preprocessing)
    return Part(bundle, "", graph, manifest.preprocessing.size, given)


def second_look(bundle: LoadedBundle) -> Part | None:
    """The second look over crops; None in a bundle that has none."""
    head = bundle.manifest.second_look
    if head is None or bundle.network.second_look is None:
        return None
    graph = CloserGraph(bundle.network.second_look, bundle.manifest.preprocessing)
    return Part(bundle, "second-look", graph, head.crop, ("dense",))
