"""From one stage to the next: all that was learned, at another image size. Called by trainer.py."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.pretraining.method import Method


def carried_over(before: dict[str, Tensor], method: Method, positions: Literal["drop", "interpolate"]) -> None:
    """Give a method with fresh weights what the stage before it has learned.

    Positions are left fresh ("drop", as CheXFound was trained: they are learned anew at each size) or resampled to the
    new grid ("interpolate", bicubic); those that do not learn are what the new size makes them.
    """
    learning = {name for name, each in method.named_parameters() if each.requires_grad or "teacher" in name}
    state = method.state_dict()
    for name, tensor in before.items():
        if not method.resized(name):
            state[name] = tensor
        elif positions == "interpolate" and name in learning:
            state[name] = resampled(tensor, state[name].shape[1])
    method.load_state_dict(state)


def resampled(positions: Tensor, count: int) -> Tensor:
    """Positions [1, 1 + n, width] of a square grid and what stands before it, as [1, count, width] of another one."""
    before, after = round((positions.shape[1] - 1) ** 0.5), round((count - 1) ** 0.5)
    grid = positions[:, 1:].float().transpose(1, 2).reshape(1, -1, before, before)
    grid = F.interpolate(grid, size=(after, after), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1].float(), grid.flatten(2).transpose(1, 2)], dim=1).to(positions.dtype)
