"""What the network says about one image: made by the engine, kept by the store, read by `workers.interpret`."""

import io
import zlib
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from schemas.errors import EngineError, ObjectMissingError

_DTYPES = {"logits": np.float32, "attention": np.float16, "dense": np.float16}
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
_DIMENSIONS = {"logits": 1, "attention": 3, "dense": 3}


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

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array: NDArray[np.floating] = getattr(self, name)
            if array.dtype != dtype or array.ndim != _DIMENSIONS[name]:
                raise EngineError(
                    f"The output {name!r} is {array.dtype} {list(array.shape)} where {np.dtype(dtype)} "
                    f"with {_DIMENSIONS[name]} dimension(s) is due."
                )
            if not np.isfinite(array).all():
                raise EngineError(f"The output {name!r} holds NaN or infinity.")
        if len(self.attention) not in (0, len(self.logits)):
            raise EngineError(f"{len(self.attention)} attention maps came with {len(self.logits)} logits.")

    def to_bytes(self) -> bytes:
        """As a compressed .npz; the same output gives the same bytes, so that its SHA-256 names it."""
        stream = io.BytesIO()
        np.savez_compressed(stream, logits=self.logits, attention=self.attention, dense=self.dense)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ModelOutput":
        """The inverse of `to_bytes`. Raises ObjectMissingError when the bytes are not those of an output."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return cls(**{name: archive[name] for name in _DTYPES})
        except _UNREADABLE as error:
            raise ObjectMissingError(f"The stored model output cannot be read: {error}") from error
