"""What the network says about one image: made by the engine, kept by the store, read by `workers.interpret`."""

import io
import zlib
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from schemas.errors import EngineError, ObjectMissingError

_DTYPES: dict[str, type[np.floating]] = {"logits": np.float32, "attention": np.float16, "dense": np.float16}
_DIMENSIONS = {"logits": 1, "attention": 3, "dense": 3}
#: Names in the archive; outputs without a second look have neither.
_ORIGIN, _CLOSER = "closer_origin", "closer_dense"
#: What NumPy and zipfile raise on bytes that are no archive of arrays.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    # zipfile on what a damaged byte claims: that it is encrypted, or compressed in a way that it does not know.
    RuntimeError,
    BadZipFile,
    zlib.error,
    EngineError,
)


@dataclass(frozen=True, eq=False)
class Closer:
    """What the second look says of its crop.

    Raises EngineError as `ModelOutput` does.
    """

    #: The crop's top left pixel in the detail image (workers/second_look.py).
    left: int
    top: int
    #: float16 [C, h, w], logits of the second look's channels, in the manifest's order; h = w = crop / stride.
    dense: NDArray[np.float16]

    def __post_init__(self) -> None:
        _check("closer", self.dense, np.float16, 3)


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """The raw outputs of a bundle's heads for one image, before any threshold.

    Raises EngineError when an array has the wrong type or shape or holds NaN or infinity: what constructs is usable.
    """

    #: float32 [K], one logit per class of the head that classifies, in the manifest's order; K = 0 without one.
    logits: NDArray[np.float32]
    #: float16 [K, h, w], attention of each class over the patches, mean over heads, 0..1; each class's map sums to 1.
    #: [0, h, w] from a head that looks nowhere.
    attention: NDArray[np.float16]
    #: float16 [C, H, W], logits of the dense head's channels, in the manifest's order; H = W = input size / stride.
    #: [0, 1, 1] without a dense head.
    dense: NDArray[np.float16]
    #: None without a second look, and where the first one saw nothing to look at.
    closer: Closer | None = None

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            _check(name, getattr(self, name), dtype, _DIMENSIONS[name])
        if len(self.attention) not in (0, len(self.logits)):
            raise EngineError(f"{len(self.attention)} attention maps came with {len(self.logits)} logits.")

    def to_bytes(self) -> bytes:
        """As a compressed .npz; the same output gives the same bytes, so that its SHA-256 names it."""
        stream = io.BytesIO()
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _DTYPES}
        if self.closer is not None:
            arrays |= {_ORIGIN: np.array([self.closer.left, self.closer.top], np.int32), _CLOSER: self.closer.dense}
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ModelOutput":
        """The inverse of `to_bytes`. Raises ObjectMissingError when the bytes are not those of an output."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                closer = None
                if _CLOSER in archive.files:
                    left, top = archive[_ORIGIN].tolist()
                    closer = Closer(left, top, archive[_CLOSER])
                return cls(**{name: archive[name] for name in _DTYPES}, closer=closer)
        except _UNREADABLE as error:
            raise ObjectMissingError(f"The stored model output cannot be read: {error}") from error


def _check(name: str, array: NDArray[np.floating], dtype: type[np.floating], dimensions: int) -> None:
    if array.dtype != dtype or array.ndim != dimensions:
        raise EngineError(
            f"The output {name!r} is {array.dtype} {list(array.shape)} where {np.dtype(dtype)} "
            f"with {dimensions} dimension(s) is due."
        )
    if not np.isfinite(array).all():
        raise EngineError(f"The output {name!r} holds NaN or infinity.")
