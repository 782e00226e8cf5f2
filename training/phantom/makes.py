"""Makes of tubes and catheters, both families side by side: those of the frozen set are never trained on.

Called by the files that draw devices. Sizes follow from the patient; a make says how it is built and how it shows.
"""

from dataclasses import dataclass

from training.phantom.truth import Family


@dataclass(frozen=True)
class TubeMake:
    """A tube with a wall and a radiopaque stripe: endotracheal, gastric, pleural."""

    #: Inner over outer radius.
    hollow: float
    #: Half the width of the stripe in mm at a tube of 5 mm radius, and its depth as a share of its width.
    stripe: float
    stripe_depth: float
    #: Number of stripes, evenly around the wall.
    stripes: int = 1
    #: The wall itself holds barium: share of a fully radiopaque one.
    loaded_wall: float = 0.0
    #: A side opening near the tip (Murphy eye).
    eye: bool = False
    #: The stripe ends so far before the tip, mm.
    stripe_short: float = 0.0


@dataclass(frozen=True)
class CatheterMake:
    """A catheter that is radiopaque throughout."""

    #: Inner over outer radius.
    hollow: float
    #: Share of a fully loaded polymer.
    opacity: float
    #: A denser end, mm long.
    marked_tip: float = 0.0


ENDOTRACHEAL: dict[Family, tuple[TubeMake, ...]] = {
    Family.TRAINING: (
        TubeMake(hollow=0.76, stripe=0.75, stripe_depth=0.80, eye=True),
        TubeMake(hollow=0.72, stripe=0.60, stripe_depth=0.95),
        TubeMake(hollow=0.78, stripe=1.10, stripe_depth=0.50, eye=True, stripe_short=3.0),
        TubeMake(hollow=0.74, stripe=0.50, stripe_depth=0.70, loaded_wall=0.05, eye=True),
        # Reinforced by the barium in its wall, no stripe to speak of.
        TubeMake(hollow=0.70, stripe=0.30, stripe_depth=0.40, loaded_wall=0.09),
    ),
    Family.FROZEN: (
        TubeMake(hollow=0.75, stripe=0.66, stripe_depth=0.85, eye=True, stripe_short=1.5),
        TubeMake(hollow=0.80, stripe=0.95, stripe_depth=0.60),
        TubeMake(hollow=0.71, stripe=0.50, stripe_depth=0.75, stripes=2, eye=True),
    ),
}
GASTRIC: dict[Family, tuple[TubeMake, ...]] = {
    Family.TRAINING: (
        TubeMake(hollow=0.66, stripe=1.2, stripe_depth=0.5),
        TubeMake(hollow=0.62, stripe=0.8, stripe_depth=0.6, stripes=3),
        TubeMake(hollow=0.60, stripe=0.5, stripe_depth=0.5, loaded_wall=0.45),
    ),
    Family.FROZEN: (
        TubeMake(hollow=0.64, stripe=1.0, stripe_depth=0.6),
        TubeMake(hollow=0.68, stripe=0.6, stripe_depth=0.6, loaded_wall=0.30),
    ),
}
PLEURAL: dict[Family, tuple[TubeMake, ...]] = {
    Family.TRAINING: (
        TubeMake(hollow=0.70, stripe=0.8, stripe_depth=0.6),
        TubeMake(hollow=0.66, stripe=1.1, stripe_depth=0.5, loaded_wall=0.08),
    ),
    Family.FROZEN: (TubeMake(hollow=0.72, stripe=0.95, stripe_depth=0.5, loaded_wall=0.04),),
}
VENOUS: dict[Family, tuple[CatheterMake, ...]] = {
    Family.TRAINING: (
        CatheterMake(hollow=0.45, opacity=0.55),
        CatheterMake(hollow=0.55, opacity=0.80),
        CatheterMake(hollow=0.50, opacity=0.35, marked_tip=8.0),
    ),
    Family.FROZEN: (CatheterMake(hollow=0.60, opacity=0.65), CatheterMake(hollow=0.40, opacity=0.45)),
}
