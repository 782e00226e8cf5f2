"""The engine's own process: owns the model on one device, answers batches until its worker is gone.

torch is imported inside serve(), so that the worker, which imports this module for its messages, stays without it.
"""

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from workers.output import ModelOutput


@dataclass(frozen=True)
class Ready:
    """The bundle is loaded, verified and has passed its self-test."""

    device: str
    precision: str
    bundle_digest: str


@dataclass(frozen=True)
class BatchOutput:
    """One output per image of the batch, in its order."""

    images: list[ModelOutput]


@dataclass(frozen=True)
class Failure:
    """What went wrong; the process ends after it, since a device may be left in any state."""

    reason: str

    def __str__(self) -> str:
        return self.reason


def serve(connection: Connection, memory: str, shape: tuple[int, ...], bundle: str, device: str) -> None:
    """Answer each number n from `connection` with the outputs of the first n slots of the shared memory.

    Slots are float32 `shape` = [batch, 1, size, size]. Returns when the other end is closed.
    """
    # Ctrl-C goes to the whole terminal's process group; the worker decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Threads of OpenMP that spin while they wait take the cores that decode the next image.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    slots_memory = SharedMemory(name=memory)
    slots = np.ndarray(shape, np.float32, buffer=slots_memory.buf)
    try:
        import torch

        from workers.bundle import load_bundle, run_selftest

        torch.set_num_threads(os.cpu_count() or 1)
        loaded = load_bundle(Path(bundle))
        run_selftest(loaded)
        network = loaded.network.to(device).eval()
        grid = shape[-1]
        connection.send(Ready(device, "float32", loaded.digest))
        while True:
            count = connection.recv()
            with torch.inference_mode():
                batch = torch.from_numpy(slots[:count]).to(device)
                logits, attention, dense = network(batch)
            side = round(attention.shape[-1] ** 0.5)
            assert side * side == attention.shape[-1] and grid % side == 0
            maps = attention.mean(dim=1).reshape(count, -1, side, side)
            connection.send(
                BatchOutput(
                    [
                        ModelOutput(
                            logits=logits[index].float().cpu().numpy(),
                            attention=maps[index].half().cpu().numpy(),
                            dense=dense[index].half().cpu().numpy(),
                        )
                        for index in range(count)
                    ]
                )
            )
    except (EOFError, BrokenPipeError):
        return  # the worker is gone
    except Exception as error:  # noqa: BLE001 - reported to the worker, which restarts this process
        connection.send(Failure(f"{type(error).__name__}: {error}"))
    finally:
        del slots
        slots_memory.close()
