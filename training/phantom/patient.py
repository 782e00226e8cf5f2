"""One patient before the detector: everything that attenuates, as layers that are kept apart.

Called by render.py. Layers kept apart make masks and twins nearly free.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from training.phantom.body import Body
from training.phantom.chains import Chain, project_chains
from training.phantom.findings import Plan
from training.phantom.geometry import Geometry
from training.phantom.opacities import draw_opacities
from training.phantom.organs import arch_calcification, draw_organs
from training.phantom.resampling import blur, enlarge
from training.phantom.skeleton import Skeleton, draw_skeleton
from training.phantom.textures import texture
from training.phantom.thorax import Layers, project_thorax
from training.phantom.vessels import draw_vessels

Field = NDArray[np.float32]

#: Organs are projected on pixels of about this size in the patient.
_COARSE_MM = 1.5
#: Share of the lung's depth that is air: 0.26 g/cm3 in full inspiration.
_AIR_SHARE = 0.74


@dataclass(frozen=True, eq=False)
class Patient:
    """Path lengths in mm, float32 [rows, columns]."""

    #: All soft tissue as water, lumps included.
    water: Field
    #: Nodules and masses alone.
    lumps: Field
    bone: Field
    #: Of the coarse grid, which is `step` pixels wide.
    layers: Layers
    step: int
    #: What each localised finding adds to the water (air taken away counts as negative), for masks and visibility.
    changes: dict[Finding, Field]
    skeleton: Skeleton


def project_patient(rng: np.random.Generator, body: Body, plan: Plan, geometry: Geometry) -> Patient:
    """Everything but devices."""
    rows, columns = geometry.rows, geometry.columns
    step = max(1, round(_COARSE_MM / geometry.patient_mm_per_pixel))
    coarse = geometry.coarser(step)
    organs = draw_organs(rng, body)
    skeleton = draw_skeleton(rng, body, plan.breaks)
    wobble = texture(rng, coarse.rows, coarse.columns, coarse.patient_mm_per_pixel, 2.0, 1.3)
    frayed = texture(rng, coarse.rows, coarse.columns, coarse.patient_mm_per_pixel, 1.9)
    layers = project_thorax(body, organs.parts, coarse, wobble)
    opacities = draw_opacities(rng, plan, body, layers, coarse, frayed)
    lung = layers.right_lung + layers.left_lung

    def fine(field: NDArray[np.floating]) -> Field:
        return enlarge(np.asarray(field, dtype=np.float32), step, rows, columns)

    share = rng.uniform(0.70, 0.78) + 0.05 * plan.has(Finding.EMPHYSEMA)
    airy = lung * np.float32(share) * opacities.aerated
    free = None
    if opacities.pleura is not None:
        free = np.clip(0.5 - opacities.pleura / 3, 0, 1)
        airy = airy * (1 - free) + np.minimum(lung, 0.97 * lung) * free * (opacities.aerated > 0.5)
    air = fine(airy)
    parenchyma = texture(rng, rows, columns, geometry.patient_mm_per_pixel, 1.4)
    grain = rng.uniform(0.012, 0.035) * (1.6 if plan.has(Finding.EDEMA) or plan.has(Finding.EMPHYSEMA) else 1.0)
    still = fine(1 - free) if free is not None else np.float32(1)
    air *= 1 + np.float32(grain) * parenchyma * still

    calibre = rng.uniform(0.9, 1.25) * (1.25 if plan.has(Finding.EDEMA) else 1.0)
    vessels = project_chains(draw_vessels(rng, body, calibre, 0.6 if plan.has(Finding.EMPHYSEMA) else 0.0), geometry)
    visible = fine(np.clip(lung / 22, 0, 1) * opacities.aerated) * still
    if opacities.septa:
        vessels += project_chains(opacities.septa, geometry)
    vessels = np.minimum(vessels, 34) * visible * np.float32(share)

    tissue = _tissue(rng, body, layers, skeleton, coarse)
    muscle = texture(rng, coarse.rows, coarse.columns, coarse.patient_mm_per_pixel, 1.6)
    water = fine(tissue * (1 + np.float32(0.015) * muscle))
    flesh = water * np.float32(0.15)
    water -= air
    water -= fine(layers.gas)
    water -= _airways(body, geometry)
    np.maximum(water, flesh, out=water)
    water += vessels
    if opacities.reticulation is not None:
        net = texture(rng, rows, columns, geometry.patient_mm_per_pixel, 1.0, 0.8)
        water += fine(opacities.reticulation) * np.clip(1 - 2.2 * np.abs(net), 0, 1) * visible
    if opacities.pleura is not None:
        line = np.exp(-((fine(opacities.pleura) / 0.9) ** 2)) * fine((lung > 6).astype(np.float32))
        water += np.float32(6.0) * line
    changes = {finding: fine(taken * lung * np.float32(share)) for finding, taken in opacities.taken.items()}
    if opacities.pleura is not None and free is not None:
        changes[Finding.PNEUMOTHORAX] = -fine(free * lung * np.float32(1 - share))
    lumps = np.zeros_like(water)
    within = fine(np.clip(lung / 12, 0, 1))
    for finding, chains in opacities.lumps.items():
        # Lumps have no polished surface.
        soft = rng.uniform(0.6, 1.8) * body.scale / geometry.patient_mm_per_pixel
        added = blur(project_chains(chains, geometry), soft) * within
        added = np.minimum(added, 80) * (1 + np.float32(0.10) * parenchyma) * np.float32(share)
        changes[finding] = added
        if finding is Finding.ATELECTASIS:
            water += added
        else:
            lumps += added
    water += lumps
    bone = project_chains(skeleton.bones, geometry) * fine(np.clip(tissue / 40, 0, 1))
    bone *= np.float32(
        rng.uniform(0.75, 1.15)
        * (0.75 + 0.25 * min(1.0, body.age_years / 15))
        * (1 - 0.25 * max(0.0, (body.age_years - 55) / 40))
    )
    bone *= 1 + np.float32(0.08) * parenchyma
    if plan.has(Finding.AORTIC_CALCIFICATION):
        changes[Finding.AORTIC_CALCIFICATION] = project_chains(arch_calcification(rng, organs), geometry)
        bone += changes[Finding.AORTIC_CALCIFICATION]
    return Patient(water, lumps, bone, layers, step, changes, skeleton)


def _tissue(rng: np.random.Generator, body: Body, layers: Layers, skeleton: Skeleton, coarse: Geometry) -> Field:
    """Torso and arms: where they overlap, they are one body."""
    arms = np.maximum.reduce([project_chains([arm], coarse) for arm in skeleton.arms])
    arms = np.asarray(blur(arms, 3 / coarse.patient_mm_per_pixel))
    return np.asarray(np.sqrt(np.sqrt(layers.body**4 + arms**4)), dtype=np.float32)


def _airways(body: Body, geometry: Geometry) -> Field:
    """Air in the trachea and the main bronchi."""
    right, left = body.right, body.left
    widths = np.full(len(body.trachea), body.trachea_radius)
    main = Chain(
        np.concatenate([body.trachea, right.bronchus[1:]]), np.concatenate([widths, right.bronchus_radius[1:]])
    )
    branch = Chain(left.bronchus[4:], left.bronchus_radius[4:])
    return project_chains([main, branch], geometry)
