"""Sinkhorn-Knopp centring of a teacher's scores, over all processes (Caron et al., SwAV, arXiv 2006.09882; DINOv2)."""

import torch
from torch import Tensor

from training.pretraining.parallel import maximum_over_processes, summed_over_processes


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float, iterations: int) -> Tensor:
    """Targets float32 [n, K] of scores [n, K]: each row sums to 1, every prototype gets about as much of the batch.

    n may differ between processes, and be 0 on some: rows and columns are balanced over all of them.
    """
    scaled = scores.float() / temperature
    # Taken off before exp: the balanced matrix is the same, and nothing overflows.
    top = scaled.amax() if scaled.numel() else scaled.new_tensor(-torch.inf)
    weights = torch.exp(scaled - maximum_over_processes(top))
    count = summed_over_processes(weights.new_tensor(float(len(scores))))
    weights = weights / summed_over_processes(weights.sum())
    prototypes = scores.shape[1]
    for _ in range(iterations):
        weights = weights / (summed_over_processes(weights.sum(dim=0, keepdim=True)) * prototypes)
        weights = weights / (weights.sum(dim=1, keepdim=True) * count)
    return weights * count
