"""What devices and foreign objects are made of: chains and plates of a material, projected to path lengths.

Devices and foreign_objects build parts; render attenuates each material's layer in its energy bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter1d

from training.phantom.body import Body
from training.phantom.chains import Chain, arc_lengths, project_chains, resample
from training.phantom.geometry import Geometry
from training.phantom.position_rules import Judgement
from training.phantom.truth import DeviceKind

Course = NDArray[np.float64]
#: Plates are drawn so many times finer and averaged, so that their edges fall between pixels.
_FINER = 3


class Material(StrEnum):
    """Attenuation differs; what it displaces is left to the renderer."""

    #: Polyvinyl chloride or polyurethane, 1.2 to 1.4 g/cm3.
    PLASTIC = "plastic"
    #: The same with barium sulphate or bismuth: stripes, whole catheters.
    RADIOPAQUE = "radiopaque"
    #: Steel, platinum, silver, titanium: as mm of steel.
    METAL = "metal"
    #: In a lumen, where it takes the place of soft tissue.
    AIR = "air"


@dataclass(frozen=True, eq=False)
class Part:
    """A bent cylinder of one material."""

    material: Material
    chain: Chain
    #: A hole in what other parts of the material make.
    removes: bool = False


@dataclass(frozen=True, eq=False)
class Plate:
    """A flat piece: a disc, a box, a buckle."""

    material: Material
    #: float64 [points, 3], patient mm: a closed outline.
    outline: Course
    #: Path through it in mm, wherever the ray meets it.
    thickness: float
    #: A second outline inside of the first that is left empty.
    hole: Course | None = None


@dataclass(frozen=True, eq=False)
class PlacedDevice:
    """One device in the patient, before it is projected."""

    kind: DeviceKind
    #: float64 [points, 3], patient mm: the centre line from where it enters to its tip.
    course: Course
    #: Of the part that runs along the course.
    radius_mm: float
    parts: tuple[Part | Plate, ...]
    #: By the rule of its kind; None where there is none.
    judgement: Judgement | None
    #: Endotracheal tube: along the long axis, positive above the carina.
    tip_to_carina_mm: float | None = None


@dataclass(frozen=True, eq=False)
class MaterialLayers:
    """Path lengths in mm, float32 [rows, columns] each, none negative."""

    plastic: NDArray[np.float32]
    radiopaque: NDArray[np.float32]
    metal: NDArray[np.float32]
    air: NDArray[np.float32]


def project_parts(parts: Sequence[Part | Plate], geometry: Geometry) -> MaterialLayers:
    """One layer per material; parts that overlap add up."""
    return MaterialLayers(
        plastic=_layer(Material.PLASTIC, parts, geometry),
        radiopaque=_layer(Material.RADIOPAQUE, parts, geometry),
        metal=_layer(Material.METAL, parts, geometry),
        air=_layer(Material.AIR, parts, geometry),
    )


def cut(course: Course, length_mm: float) -> Course:
    """The course [points, 3] from its first point to `length_mm` along it, exactly; all of it where it is shorter."""
    along = arc_lengths(course)
    length_mm = min(length_mm, float(along[-1]))
    end = np.array([np.interp(length_mm, along, axis) for axis in course.T])
    return np.concatenate([course[along < length_mm], end[None]])


def short_of_tip(course: Course, radius: float) -> Course:
    """The course without its last `radius` mm: a chain's round end then reaches the tip and not beyond."""
    return cut(course, float(arc_lengths(course)[-1]) - radius)


def join(*courses: Course) -> Course:
    """One course of several that meet, with points about every 2 mm and rounded corners, as a catheter bends."""
    whole = resample(np.concatenate(courses), 2.0)
    bent = gaussian_filter1d(whole, 3.0, axis=0, mode="nearest")
    bent[[0, -1]] = whole[[0, -1]]
    return np.asarray(bent)


def beside(course: Course, distance: float, angle: float) -> Course:
    """The course moved sideways by `distance` mm: at `angle` 0 across the patient, at pi / 2 towards the back or front.

    A stripe on a tube's wall: it keeps its side where the tube bends.
    """
    along = np.gradient(course, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    across = np.cross(along, [0.0, 0.0, 1.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    through = np.cross(across, along)
    return np.asarray(course + distance * (np.cos(angle) * across + np.sin(angle) * through))


def disc(centre: Course, radius: float) -> Course:
    """The outline of a disc that faces front or back, float64 [32, 3], closed."""
    around = np.linspace(0, 2 * np.pi, 32)
    return np.asarray(centre + radius * np.stack([np.cos(around), np.sin(around), 0 * around], axis=1))


def on_skin(body: Body, flat: NDArray[np.float64], *, front: bool) -> Course:
    """Points (x, y) [points, 2] laid 3 mm off the skin, float64 [points, 3]; beside the body they go straight on."""
    skin = np.array([body.skin(x, y, front=front)[2] for x, y in flat])
    depth = gaussian_filter1d(skin, 2.0, mode="nearest") + (-3.0 if front else 3.0)
    return np.column_stack([flat, depth])


def _layer(material: Material, given: Sequence[Part | Plate], geometry: Geometry) -> NDArray[np.float32]:
    parts = [part for part in given if part.material is material]
    chains = [part.chain for part in parts if isinstance(part, Part) and not part.removes]
    layer = project_chains(chains, geometry)
    holes = [part.chain for part in parts if isinstance(part, Part) and part.removes]
    if holes:
        layer = np.maximum(layer - project_chains(holes, geometry), 0)
    for part in parts:
        if isinstance(part, Plate):
            _add_plate(layer, part, geometry)
    return layer


def _add_plate(layer: NDArray[np.float32], plate: Plate, geometry: Geometry) -> None:
    outline, _ = geometry.project(plate.outline)
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, [geometry.columns, geometry.rows])
    width, height = (high - low).tolist()
    if width <= 0 or height <= 0:
        return
    picture = Image.new("L", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(picture)
    # PIL's pixel centres are whole numbers.
    draw.polygon([tuple(point) for point in ((outline - low) * _FINER - 0.5).tolist()], fill=255)
    if plate.hole is not None:
        hole, _ = geometry.project(plate.hole)
        draw.polygon([tuple(point) for point in ((hole - low) * _FINER - 0.5).tolist()], fill=0)
    covered = np.asarray(picture, dtype=np.float32).reshape(height, _FINER, width, _FINER).mean(axis=(1, 3)) / 255
    layer[low[1] : high[1], low[0] : high[0]] += plate.thickness * covered
