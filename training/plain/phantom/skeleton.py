"""Ribs, clavicles, scapulae and spine as capsule chains."""

import numpy as np

from training.plain.phantom.anatomy import Anatomy
from training.plain.phantom.chains import Chain, smooth_curve
from training.plain.phantom.thorax import lateral_border


def draw_skeleton(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    """All bones of one person, in thorax mm."""
    return [*_ribs(rng, anatomy), *_shoulder_girdle(rng, anatomy), *_spine(rng)]


def _ribs(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    chains = []
    pitch = rng.normal(24.5, 1.0)
    slope = rng.uniform(0.10, 0.30)
    radius = rng.uniform(4.3, 5.6)
    for sign, lung in ((-1.0, anatomy.right), (1.0, anatomy.left)):
        reach = lung.angle - lung.apex
        for number in range(10):
            head = lung.apex - 4 + pitch * number * (0.82 + 0.02 * number)
            turn = head + 24 + slope * 90 + 2 * number
            chest = max(lateral_border(lung, min(turn, lung.angle - 0.1 * reach)), lung.apex_distance + 8) + 3
            rise = -7.0 if number > 1 else 0.0
            posterior = [(17, head), (0.35 * chest, head + rise), (0.72 * chest, head + 6 + slope * 45), (chest, turn)]
            chains.append(_bone(sign, posterior, radius, 0.55))
            if number < 7:
                front = turn + 46 + 5 * number
                width = 0.38 * chest if number < 5 else 0.5 * chest
                anterior = [(chest, turn), (0.93 * chest, turn + 24), (0.7 * chest, front), (width, front + 8)]
                chains.append(_bone(sign, anterior, radius * 1.1, 0.7))
    return chains


def _shoulder_girdle(rng: np.random.Generator, anatomy: Anatomy) -> list[Chain]:
    chains = []
    height = anatomy.right.apex + rng.normal(20, 7)
    lateral = anatomy.right.width + 22
    # Shoulders turned forward (PA) bring the scapulae off the lungs.
    border = rng.uniform(88, 108) if anatomy.view_position == "AP" else rng.uniform(122, 140)
    for sign in (-1.0, 1.0):
        lift = rng.normal(0, 4)
        clavicle = [(16, height + 8), (50, height + lift), (95, height - 16 + lift), (lateral, height - 22 + lift)]
        chains.append(_bone(sign, clavicle, 6.2, 0.6))
        chains.append(
            _bone(sign, [(border + 10, height - 5), (border, height + 45), (border + 14, height + 105)], 3.0, 0.5)
        )
        chains.append(
            _bone(sign, [(border + 14, height + 105), (lateral - 6, height + 45), (lateral, height + 2)], 4.0, 0.6)
        )
        chains.append(
            _bone(
                sign, [(lateral + 12, height + 2), (lateral + 22, height + 18), (lateral + 34, height + 120)], 17, 0.8
            )
        )
    return chains


def _spine(rng: np.random.Generator) -> list[Chain]:
    chains = []
    y = -175 + rng.uniform(0, 20)
    bend = rng.normal(0, 5)
    while y < 300:
        height = 17 + 0.022 * (y + 170)
        half = 13 + 0.02 * (y + 170)
        x = bend * np.sin(y / 110)
        for edge, thickness, hollow in ((0.1, 1.6, 0.0), (0.5, 0.5 * height, 0.9), (0.9, 1.6, 0.0)):
            row = y + edge * height
            chains.append(Chain(np.array([(x - half, row), (x + half, row)]), thickness, hollow))
        for sign in (-1, 1):
            chains.append(Chain(np.array([(x + sign * 0.62 * half, y + 5), (x + sign * 0.62 * half, y + 9)]), 3.4, 0.6))
        chains.append(Chain(np.array([(x, y + 0.6 * height), (x, y + 1.1 * height)]), 1.8))
        y += height + 3.5
    return chains


def _bone(sign: float, knots: list[tuple[float, float]], radius: float, hollow: float) -> Chain:
    curve = smooth_curve(knots, 16)
    curve[:, 0] *= sign
    return Chain(curve, radius, hollow)
