"""Renders a phantom: the one entry point of this package."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from schemas.result import Point
from training.plain.phantom.airways import Airways, draw_airways, draw_vessels
from training.plain.phantom.anatomy import Anatomy, draw_anatomy
from training.plain.phantom.appearance import develop, texture
from training.plain.phantom.chains import Chain, project_chains
from training.plain.phantom.devices import distractor_chains, draw_distance, tube_chains, tube_course
from training.plain.phantom.opacities import draw_consolidation, draw_nodules
from training.plain.phantom.pose import Pose
from training.plain.phantom.skeleton import draw_skeleton
from training.plain.phantom.thorax import project_thorax
from training.plain.phantom.truth import Phantom, TubeChoice, TubeTruth

# Effective attenuation per mm at a tube voltage of about 110 kV.
_SOFT_TISSUE = 0.0185
#: Bone beyond the soft tissue that it replaces.
_BONE = 0.032
_PLASTIC = 0.036
#: Barium-loaded stripe, wires.
_RADIOPAQUE = 0.24
#: Share of the lung's depth that is air.
_AIR_SHARE = 0.74
#: Half width of the course mask: about the tube's own.
_COURSE_RADIUS_MM = 2.5


@dataclass(frozen=True)
class _Patient:
    """Everything but devices."""

    #: float32 [rows, columns]
    attenuation: NDArray[np.float32]
    #: bool [3, rows, columns]: right lung, left lung, heart.
    organs: NDArray[np.bool_]
    #: bool [4, rows, columns], see `Phantom.finding_masks`.
    finding_masks: NDArray[np.bool_]


def render_phantom(seed: int, rows: int, columns: int, tube: TubeChoice = "any") -> Phantom:
    """Simulate one adult frontal chest radiograph of `rows` x `columns` pixels; the same seed gives the same image."""
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng, "AP" if rng.random() < 0.6 else "PA")
    distance_mm = draw_distance(rng, tube)
    pose = _draw_pose(rng, anatomy, rows, columns)
    if distance_mm is not None:
        # The tip stays on the image, whatever the collimation.
        distance_mm = min(distance_mm, pose.carina_y * pose.mm_per_pixel - 12)
    airways = draw_airways(rng)
    course = None if distance_mm is None else tube_course(rng, airways, distance_mm)

    patient = _project_patient(rng, anatomy, airways, pose, (rows, columns))
    attenuation = patient.attenuation
    devices = distractor_chains(rng, anatomy, airways)
    if course is not None:
        wall, stripe = tube_chains(rng, course)
        attenuation += _PLASTIC * project_chains(wall, pose, rows, columns)
        devices += stripe
        course_mask = project_chains([Chain(course, _COURSE_RADIUS_MM)], pose, rows, columns) > 0
    else:
        course_mask = np.zeros((rows, columns), dtype=np.bool_)
    attenuation += _RADIOPAQUE * project_chains(devices, pose, rows, columns)
    carina = pose.to_pixels(np.zeros(2))
    return Phantom(
        seed=seed,
        image=develop(rng, attenuation, pose.mm_per_pixel),
        masks=np.concatenate([patient.organs, course_mask[None]]),
        findings=anatomy.findings,
        finding_masks=patient.finding_masks,
        tube=None if course is None else _tube_truth(pose, course, carina),
        carina=Point(x=float(carina[0]), y=float(carina[1])),
        mm_per_pixel=pose.mm_per_pixel,
        view_position=anatomy.view_position,
    )


def _draw_pose(rng: np.random.Generator, anatomy: Anatomy, rows: int, columns: int) -> Pose:
    """Collimation: the narrower of both directions still shows most of the lungs."""
    needed_width = 2 * anatomy.right.width + rng.uniform(15, 90)
    needed_height = anatomy.left.angle - anatomy.right.apex + rng.uniform(25, 100)
    mm_per_pixel = max(needed_width / columns, needed_height / rows)
    height = mm_per_pixel * rows
    middle = (anatomy.left.angle + anatomy.right.apex) / 2 + rng.normal(-6, 0.10 * (height - needed_height) + 8)
    return Pose(
        carina_x=columns / 2 + rng.normal(0, 9) / mm_per_pixel,
        carina_y=rows / 2 - middle / mm_per_pixel,
        rotation=float(np.clip(rng.normal(0, 0.045), -0.13, 0.13)),
        mm_per_pixel=float(mm_per_pixel),
    )


def _project_patient(
    rng: np.random.Generator, anatomy: Anatomy, airways: Airways, pose: Pose, shape: tuple[int, int]
) -> _Patient:
    rows, columns = shape
    exudate = nodules = np.zeros(shape, dtype=np.float32)
    layers = project_thorax(anatomy.thorax, anatomy.right, anatomy.left, pose, rows, columns)
    lung = layers.lungs.sum(axis=0)
    parenchyma = texture(rng, rows, columns, pose.mm_per_pixel, power=1.3)
    aerated = layers.aerated * (1 - layers.mediastinum * (0.80 - 0.1 * layers.heart))
    if Finding.CONSOLIDATION in anatomy.findings:
        exudate = draw_consolidation(rng, anatomy, pose, parenchyma)
        aerated *= 1 - exudate
    collapsed = 1 - layers.free_air
    vessels = project_chains(draw_vessels(rng, anatomy), pose, rows, columns) * aerated * collapsed * (lung > 0)
    # Denser alveoli here, emptier ones there, and none in free air.
    air = (
        lung * aerated * (_AIR_SHARE * (1 + 0.035 * parenchyma * collapsed) + (1 - _AIR_SHARE) * layers.free_air * 0.8)
    )
    # Branches of one airway overlap at the carina but hold the same air.
    branches = [project_chains([chain], pose, rows, columns) for chain in airways.chains()]
    air += 1.1 * np.maximum.reduce(branches)
    added = 1.1 * vessels + 5.0 * layers.pleura * aerated * (lung > 0)
    if Finding.NODULE in anatomy.findings:
        nodules = project_chains(draw_nodules(rng, anatomy), pose, rows, columns)
        added += 0.8 * nodules * (lung > 0)
    tissue = layers.body * (1 + 0.012 * texture(rng, rows, columns, pose.mm_per_pixel, power=1.6))
    # Air displaces tissue that has to be there: at the rim of the body there is little.
    soft = np.maximum(tissue - air, 0.18 * tissue) + added + 12.0 * layers.heart * layers.mediastinum
    bone = project_chains(draw_skeleton(rng, anatomy), pose, rows, columns) * np.minimum(1, layers.body / 60)
    found = np.stack([layers.aerated < 0.5, layers.free_air > 0, exudate > 0.2, nodules > 0])
    return _Patient(
        attenuation=(_SOFT_TISSUE * soft + _BONE * bone).astype(np.float32),
        organs=np.concatenate([layers.lungs > 0, (layers.heart > 0)[None]]),
        finding_masks=found & (lung > 0),
    )


def _tube_truth(pose: Pose, course_mm: NDArray[np.float64], carina: NDArray[np.float32]) -> TubeTruth:
    course = pose.to_pixels(course_mm)
    visible = course[course[:, 1] >= 0]
    distance = float(carina[1] - visible[-1, 1]) * pose.mm_per_pixel
    return TubeTruth(course=visible, tip_to_carina_mm=distance)
