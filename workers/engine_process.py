"""The engine's own process: owns the model on one device, answers batches until its worker is gone.

torch is imported inside serve(), so that the worker, which imports this module to start it, stays without it.
"""

import ctypes
import multiprocessing.forkserver
import os
import signal
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.bundle import Manifest
from schemas.errors import ChexnodeError, EngineError
from workers.engine_messages import BANKS, Answer, BatchOutput, Failure, Forward, Loaded, OutOfMemory, Ready
from workers.output import ModelOutput
from workers.second_look import Detail, Looked, look_closer
from workers.shared_images import SharedImages

if TYPE_CHECKING:
    from workers.backends.backend import Backend, Outputs

#: prctl(2): signal to send when the parent dies.
_PR_SET_PDEATHSIG = 1
#: What torch, OpenVINO and ONNX Runtime say on a CPU, each with a plain RuntimeError.
_NO_MEMORY = ("not enough memory", "can't allocate memory", "bad_alloc", "Failed to allocate")


def serve(
    connection: Connection, images: SharedImages, details: SharedImages | None, bundle: Path, device: str
) -> None:
    """Load the bundle, send `Loaded`, then answer each `Forward` in order until the other end is closed."""
    _die_with_the_worker()
    # Ctrl-C goes to the whole terminal's process group; the worker decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from workers.backends.choice import load_chosen

        chosen = load_chosen(bundle, device, largest_batch=images.array.shape[1])
        backend = chosen.backend
        connection.send(
            Loaded(
                Ready(backend.name, device, backend.precision, chosen.bundle_digest),
                chosen.reason,
                chosen.selftest_difference,
            )
        )
        look = None if chosen.closer is None or details is None else _Closer(chosen.closer, chosen.manifest, details)
        _answer_batches(connection, images.array, backend, look)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the worker is gone
    except ChexnodeError as error:
        connection.send(Failure(str(error)))
    except Exception as error:  # noqa: BLE001 - reported to the worker, which restarts this process
        connection.send(Failure(f"{type(error).__name__}: {error}"))


def _die_with_the_worker() -> None:
    """See to it that no engine outlives a worker that was killed, not even one that hangs.

    The fork server ends when nobody holds its pipe any more, and the kernel kills its children with it. Children
    inherit the pipe to be able to start others; this one gives it up.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    server: Any = multiprocessing.forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


class _Closer:
    """The second look at the images of a batch."""

    def __init__(self, backend: "Backend", manifest: Manifest, details: SharedImages) -> None:
        self._backend = backend
        self._manifest = manifest
        self._banks: NDArray[np.uint8] = details.array

    def look(self, request: Forward, outputs: "Outputs") -> list[Looked | None]:
        details = map(Detail, self._banks[request.bank, : request.count], request.details)
        return look_closer(
            outputs.dense, list(details), self._manifest, lambda crops: self._backend.launch(crops)().dense
        )


def _answer_batches(
    connection: Connection, banks: NDArray[np.float32], backend: "Backend", closer: _Closer | None
) -> None:
    launched: deque[tuple[Forward, Callable[[], Outputs]]] = deque()
    while True:
        if not launched or (len(launched) < BANKS and connection.poll()):
            request: Forward = connection.recv()
            launched.append((request, _launch(backend, banks[request.bank, : request.count])))
        else:
            connection.send(_finish(*launched.popleft(), closer))


def _launch(backend: "Backend", images: NDArray[np.float32]) -> "Callable[[], Outputs]":
    """As `backend.launch`, but out of memory comes out where the outputs would, behind the batches before it."""
    try:
        return backend.launch(images)
    except Exception as error:
        if not _out_of_memory(error):
            raise
        failure = MemoryError(str(error))

        def fail() -> "Outputs":
            raise failure

        return fail


def _finish(request: Forward, outputs: "Callable[[], Outputs]", closer: _Closer | None) -> Answer:
    try:
        finished = outputs()
        looked = [None] * request.count if closer is None else closer.look(request, finished)
    except Exception as error:
        if not _out_of_memory(error):
            raise
        return OutOfMemory(request.number, str(error).strip().split("\n")[0])
    return BatchOutput(request.number, [_image(finished, index, each) for index, each in enumerate(looked)])


def _image(outputs: "Outputs", index: int, looked: Looked | None) -> ModelOutput | Failure:
    # What is too large for float16 becomes infinite, which ModelOutput refuses.
    with np.errstate(over="ignore"):
        attention, dense = (each[index].astype(np.float16) for each in (outputs.attention, outputs.dense))
    try:
        closer = None if looked is None else looked.closer()
        return ModelOutput(logits=outputs.logits[index], attention=attention, dense=dense, closer=closer)
    except EngineError as error:
        return Failure(error.detail)


def _out_of_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, on CUDA
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY))
    )
