"""Several processes that train together (torchrun), on GPUs or CPUs, or the one that there is.

DDP keeps a whole copy of the network in each; FSDP2 shares parameters, gradients and optimizer state out among them.
Used by the trainer and by whatever is computed over the whole batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from training.pretraining.method import Method
from workers.networks.vit import ViT

Strategy = Literal["ddp", "fsdp"]

_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_first_of_its_host(self) -> bool:
        return os.environ.get("LOCAL_RANK", "0") == "0"

    def meet(self) -> None:
        """Wait for the others."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the others that torchrun started; alone without it. GPUs (NCCL) where there are any, or CPUs (gloo)."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        yield Processes(0, 1, device)
        return
    # One of each host prepares the images first; torchrun ends the others when that fails.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def shared_out(method: Method, among: Processes, strategy: Strategy) -> nn.Module:
    """What is called instead of `method` in training; of one process the method itself."""
    if among.count == 1:
        return method
    if strategy == "ddp":
        ids = [among.device.index] if among.device.type == "cuda" else None
        return DistributedDataParallel(method, device_ids=ids)
    mesh = init_device_mesh(among.device.type, (among.count,))
    for module in method.modules():
        if isinstance(module, ViT):
            for block in module.blocks:
                fully_shard(block, mesh=mesh)
    # In place: the method is what shares itself out from now on.
    fully_shard(method, mesh=mesh)
    register_fsdp_forward_method(method, "features")
    return method


def summed_over_processes(value: Tensor) -> Tensor:
    """The sum of everybody's `value`; without gradient."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def maximum_over_processes(value: Tensor) -> Tensor:
    """The greatest of everybody's `value`; without gradient."""
    if distributed.is_initialized():
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return value


def gathered(value: Tensor) -> Tensor:
    """Everybody's `value` [B, ...], first to last: [processes * B, ...]; without gradient."""
    if not distributed.is_initialized():
        return value.detach()
    parts = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)


def place_of_this_process() -> int:
    """This process's rank; 0 of one alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0
