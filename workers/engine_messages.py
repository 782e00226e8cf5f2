"""What a worker and its engine processes say to each other. Imports no torch, so that the worker stays without it."""

from dataclasses import dataclass
from typing import TypeAlias

from workers.output import ModelOutput
from workers.placement import Placement

#: Batches that the shared memory holds: one is computed while the next is written.
BANKS = 2


@dataclass(frozen=True)
class Ready:
    """An engine that has loaded and verified its bundle and passed its self-test."""

    #: "torch", "openvino" or "onnxruntime".
    name: str
    #: "cpu" or "cuda:N".
    device: str
    #: "float32" or "bfloat16".
    precision: str
    #: SHA-256 (hex) of the bundle that it computes.
    bundle_digest: str


@dataclass(frozen=True)
class Loaded:
    """First answer of an engine process."""

    ready: Ready
    #: Why it is this engine, for the log.
    reason: str
    #: Greatest difference of an output of the self-test from the recorded one.
    selftest_difference: float


@dataclass(frozen=True)
class Forward:
    """Compute the first `count` images of the bank."""

    #: Comes back with the answer, so that no output can go to another image.
    number: int
    bank: int
    count: int
    #: How each image lies in its detail image; empty without a second look.
    details: tuple[Placement, ...] = ()


@dataclass(frozen=True)
class Failure:
    """What went wrong: with one image of a batch, or, as an answer of its own, with the process, which then ends."""

    reason: str


@dataclass(frozen=True)
class BatchOutput:
    """One output or failure per image of the batch, in its order."""

    number: int
    images: list[ModelOutput | Failure]


@dataclass(frozen=True)
class OutOfMemory:
    """The batch did not fit into memory; the process is well and takes the next."""

    number: int
    reason: str


Answer: TypeAlias = Loaded | BatchOutput | OutOfMemory | Failure
