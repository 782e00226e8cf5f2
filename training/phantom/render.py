"""Renders a phantom: the one entry point of this package."""

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.codes import Finding
from schemas.result import Point
from training.phantom.beam import Exposure, draw_exposure
from training.phantom.body import Body, draw_age, draw_body
from training.phantom.burned_in_text import BurnedInText, draw_burned_in_text
from training.phantom.chains import project_chains
from training.phantom.device_parts import project_parts
from training.phantom.devices import device_truths, draw_devices
from training.phantom.endotracheal_tube import TubeChoice
from training.phantom.exposure_geometry import Collimation, draw_collimation, draw_geometry
from training.phantom.families import BODIES, DETECTORS, VENDORS
from training.phantom.findings import NOT_LATERAL, PREVALENCE, Plan, draw_plan, is_visible
from training.phantom.foreign_objects import draw_foreign_objects
from training.phantom.geometry import Geometry
from training.phantom.patient import Patient, project_patient
from training.phantom.processing import draw_processing
from training.phantom.resampling import enlarge
from training.phantom.shapes import lateral_border
from training.phantom.side_marker import draw_side_marker
from training.phantom.truth import Family, Phantom, Structure, View

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]

#: Share of bedside (AP) films among those whose view is not asked for.
_BEDSIDE = 0.55
#: mm of path within a lung, heart or bone from where on it belongs to the mask.
_LEAST_PATH = 2.0
#: Water-equivalent change in mm from where on a finding belongs to its mask.
_LEAST_CHANGE = 4.0
#: Effective attenuation of water and bone per mm, for what a finding changes.
_WATER, _BONE = 0.0198, 0.034
#: Of lead, as mm of steel.
_LEAD = 6.0


def render_phantom(
    seed: int,
    rows: int,
    columns: int,
    *,
    family: Family = Family.TRAINING,
    view: View | None = None,
    age_years: float | None = None,
    devices: bool = True,
    tube: TubeChoice = TubeChoice.ANY,
    masks: bool = True,
    twins: bool = False,
) -> Phantom:
    """Simulate one chest radiograph of `rows` x `columns` pixels; the same arguments give the same phantom.

    Without a `view` it is a frontal one. `devices=False` leaves out devices and foreign objects, nothing else changes;
    `masks=False` leaves out masks of structures and findings; `twins` adds the bone-free and the nodule-free film.
    """
    streams = [np.random.default_rng([seed, list(Family).index(family), stream]) for stream in range(6)]
    person, inside, worn, exposing, showing, noisy = streams
    if view is None:
        view = View.AP if person.random() < _BEDSIDE else View.PA
    age_years = draw_age(person, BODIES[family]) if age_years is None else age_years
    plan = draw_plan(person, view, age_years)
    body = draw_body(
        person,
        BODIES[family],
        view,
        age_years,
        cardiomegaly=plan.has(Finding.CARDIOMEGALY),
        overinflated=plan.has(Finding.EMPHYSEMA),
    )
    geometry = draw_geometry(exposing, body, rows, columns, DETECTORS[family])
    patient = project_patient(inside, body, plan, geometry)

    placed = draw_devices(worn, body, family, tube) if devices else ()
    objects = draw_foreign_objects(worn, body, family) if devices else None
    text = draw_burned_in_text(worn, rows, columns) if devices else BurnedInText(0, None)
    parts = [part for device in placed for part in device.parts] + (list(objects.parts) if objects else [])
    materials = project_parts(parts, geometry) if parts else None
    marker = draw_side_marker(showing, geometry)
    if marker is not None:
        patient.bone[:] += np.float32(_LEAD * 8) * marker
    water = patient.water if materials is None else np.maximum(patient.water - materials.air, 0)

    exposure = draw_exposure(exposing, DETECTORS[family], age_years)
    collimation = draw_collimation(exposing, geometry)
    processing = draw_processing(showing, VENDORS[family])
    noise = noisy.standard_normal((rows, columns), dtype=np.float32)
    mm = geometry.imager_mm_per_pixel

    def picture(water: Field, bone: Field) -> tuple[Field, Field]:
        """The enhanced film, and the signal that it was made from."""
        transmission = exposure.transmission(water, bone, materials)
        signal = exposure.detect(transmission, noise, mm)
        return processing.enhance(signal, mm), signal

    organs = _organs(patient)
    enhanced, signal = picture(water, patient.bone)
    lungs = organs[Structure.RIGHT_LUNG] | organs[Structure.LEFT_LUNG]
    shown = np.ones_like(lungs) if collimation.exposed is None else collimation.exposed
    heart = organs[Structure.HEART]
    window = processing.window(enhanced, lungs & ~heart & shown, heart & shown)
    image = text.onto(_collimate(window.show(enhanced), collimation))
    bone_free = nodule_free = None
    if twins:
        lead = np.float32(_LEAD * 8) * marker if marker is not None else np.zeros_like(water)
        bone_free = text.onto(_collimate(window.show(picture(water, lead)[0]), collimation))
        nodule_free = image
        if patient.lumps.any():
            film = window.show(picture(water - patient.lumps, patient.bone)[0])
            nodule_free = text.onto(_collimate(film, collimation))
    findings, answered, finding_masks = _judge(plan, patient, body, geometry, exposure, signal, shown)
    return Phantom(
        seed=seed,
        family=family,
        image=image,
        view=view,
        age_years=age_years,
        sex=body.sex,
        rotation_degrees=geometry.rotation_degrees,
        turn_degrees=geometry.turn_degrees,
        inspiration=body.inspiration,
        imager_mm_per_pixel=mm,
        magnification=geometry.magnification,
        masks=_masks(organs, patient, geometry) if masks else {},
        findings=findings,
        answered=answered,
        finding_masks=finding_masks if masks else {},
        landmarks=_landmarks(body, geometry),
        devices=device_truths(placed, geometry, image, collimation.exposed),
        foreign_objects=objects.objects + text.count if objects else 0,
        bone_free=bone_free,
        nodule_free=nodule_free,
    )


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Version of the phantom: SHA-256 over this package's source, hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _organs(patient: Patient) -> dict[Structure, Mask]:
    rows, columns = patient.water.shape
    paths = {
        Structure.RIGHT_LUNG: patient.layers.right_cavity,
        Structure.LEFT_LUNG: patient.layers.left_cavity,
        Structure.HEART: patient.layers.heart,
    }
    return {
        structure: enlarge(path, patient.step, rows, columns) > _LEAST_PATH * (1 + 2 * (structure is Structure.HEART))
        for structure, path in paths.items()
    }


def _masks(organs: dict[Structure, Mask], patient: Patient, geometry: Geometry) -> dict[Structure, Mask]:
    return {
        **organs,
        Structure.CLAVICLES: project_chains(patient.skeleton.clavicles, geometry) > 0.5,
        Structure.RIBS: project_chains(patient.skeleton.ribs, geometry) > 0.5,
    }


def _collimate(image: Field, collimation: Collimation) -> Field:
    if collimation.exposed is None:
        return image
    return np.where(collimation.exposed, image, np.float32(collimation.grey))


def _judge(
    plan: Plan,
    patient: Patient,
    body: Body,
    geometry: Geometry,
    exposure: Exposure,
    signal: Field,
    shown: Mask,
) -> tuple[frozenset[Finding], frozenset[Finding], dict[Finding, Mask]]:
    """Findings that are seen, findings that are answered, masks of what has a place of its own.

    What was drawn and is not seen is neither present nor absent.
    """
    unseen: set[Finding] = set()
    masks: dict[Finding, Mask] = {}
    mm = geometry.patient_mm_per_pixel
    noise = 1 / np.sqrt(exposure.dose * signal)
    for finding in plan.findings:
        if finding in (Finding.RIB_FRACTURE, Finding.CLAVICLE_FRACTURE):
            mask = _around(patient, plan, geometry, clavicle=finding is Finding.CLAVICLE_FRACTURE) & shown
            change = np.float32(0.5 * _BONE) * patient.bone
        elif finding in patient.changes:
            water = patient.changes[finding]
            calcium = finding is Finding.AORTIC_CALCIFICATION
            mask = (np.abs(water) > (0.6 if calcium else _LEAST_CHANGE)) & shown
            change = water * np.float32(_BONE if calcium else _WATER)
        else:
            continue
        masks[finding] = mask
        change = change / np.float32(1 + exposure.scatter * 0.6)
        if not is_visible(finding, mask, change, noise, mm, body.scale):
            unseen.add(finding)
    possible = frozenset(PREVALENCE) - (NOT_LATERAL if body.view is View.LATERAL else frozenset())
    return (
        frozenset(plan.findings - unseen),
        possible - unseen,
        {finding: mask for finding, mask in masks.items() if finding not in unseen},
    )


def _around(patient: Patient, plan: Plan, geometry: Geometry, clavicle: bool) -> Mask:
    """Discs about broken bones."""
    rows, columns = geometry.rows, geometry.columns
    mask = np.zeros((rows, columns), dtype=np.bool_)
    pixels, magnification = geometry.project(patient.skeleton.breaks)
    y, x = np.ogrid[0:rows, 0:columns]
    for (px, py), enlarged, which in zip(pixels, magnification, patient.skeleton.broken, strict=True):
        if (which.rib == 0) is clavicle:
            radius = 8 * enlarged / geometry.imager_mm_per_pixel
            mask |= (x + 0.5 - px) ** 2 + (y + 0.5 - py) ** 2 < radius**2
    return mask


def _landmarks(body: Body, geometry: Geometry) -> dict[str, Point]:
    """Those that lie on the image."""
    places = {"carina": body.trachea[-1], "larynx": body.trachea[0]}
    for name, side in (("right", body.right), ("left", body.left)):
        lung = side.lung
        places[f"{name}_apex"] = np.array([side.sign * lung.apex_x, lung.apex, lung.centre_z])
        wall = lateral_border(lung, lung.angle - 3)
        places[f"{name}_costophrenic"] = np.array([side.sign * wall, lung.angle - 3, lung.centre_z])
        places[f"{name}_hilum"] = side.hilum
    points = {name: geometry.project_point(place) for name, place in places.items()}
    return {name: point for name, point in points.items() if geometry.shows(point)}
