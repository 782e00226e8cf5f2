"""For whom a bundle is made: asked of an image when it is received (routing), and in SQL when results are planned.

A pure function of what the ledger keeps of a frontal chest radiograph, its view and the patient's age.
"""

from sqlalchemy import ColumnElement, and_, or_, true

from node.intake.view_position import View
from schemas.bundle import Population
from schemas.tables import Instance


def takes(population: Population, view: View, age_years: float | None) -> bool:
    """Whether the population includes a frontal radiograph (PA, AP or FRONTAL) of a patient of this age.

    What is not known excludes nothing: an unknown age fits, and a frontal view that may be PA or AP fits where both do.
    """
    return view.value in _views(population) and not _too_young(population, age_years)


def taken(population: Population) -> ColumnElement[bool]:
    """The same as a condition on `Instance`."""
    minimum = population.minimum_age_years
    old_enough = or_(Instance.age_years.is_(None), Instance.age_years >= minimum) if minimum is not None else true()
    return and_(Instance.view.in_(sorted(_views(population))), old_enough)


def made_for(population: Population) -> str:
    """In words, for example "PA and AP views of patients from 18 years"."""
    views = f"{' and '.join(population.view_positions) or 'no'} views"
    minimum = population.minimum_age_years
    return views if minimum is None else f"{views} of patients from {minimum} years"


def _views(population: Population) -> set[str]:
    accepted: set[str] = set(population.view_positions)
    return accepted | {View.FRONTAL.value} if {"PA", "AP"} <= accepted else accepted


def _too_young(population: Population, age_years: float | None) -> bool:
    minimum = population.minimum_age_years
    return minimum is not None and age_years is not None and age_years < minimum
