"""What `chexnode train regenerate` does around the making of a bundle: with what it is compared, and where it goes."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from node.ledger.database import upgrade
from node.ledger.ledger import open_ledger
from schemas.settings import load_settings
from training.regeneration.candidates import active_of_name, register_candidate
from training.regeneration.recipe import Recipe
from training.regeneration.regenerate import Regenerated, put_bundle, regenerate
from workers.bundle import load_bundle
from workers.registry_commands import named_folder


def regenerate_bundle(
    recipe: Recipe,
    cache: Path,
    console: Console,
    *,
    out: Path | None,
    sources: Sequence[str],
    against: str | None,
    into_registry: bool,
) -> bool:
    """Make the bundle, put it where it is wanted, say what became of it. False when its gate refuses it.

    Raises BundleNotFoundError for an unknown `against` before anything is made.
    """
    if into_registry:
        made = _into_registry(recipe, cache, console, sources)
    else:
        active = None if against is None else load_bundle(named_folder(against))
        made = regenerate(recipe, cache, console, sources=sources, active=active)
    if made.refused:
        _say_refusal(made, console)
        return False
    if out is not None:
        put_bundle(made.bundle, out)
        console.print(f"bundle put into {out}", soft_wrap=True, highlight=False)
    return True


def _into_registry(recipe: Recipe, cache: Path, console: Console, sources: Sequence[str]) -> Regenerated:
    settings = load_settings()
    ledger = open_ledger(settings)
    upgrade(ledger)
    active = active_of_name(ledger, settings, recipe.bundle.name)
    made = regenerate(recipe, cache, console, sources=sources, active=active)
    if register_candidate(ledger, settings, made):
        console.print(f"registered as a candidate: chexnode bundle activate {made.bundle.digest[:12]}", highlight=False)
    elif not made.refused:
        console.print("[yellow]Not registered:[/] the recipe has no gate, or this was a rehearsal.")
    return made


def _say_refusal(made: Regenerated, console: Console) -> None:
    assert made.verdict is not None
    console.print("[bold red]The gate refuses this bundle;[/] it goes nowhere:")
    for reason in made.verdict.reasons:
        console.print(f"  {reason}", soft_wrap=True, markup=False, highlight=False)
