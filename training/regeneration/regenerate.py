"""Makes a bundle from its recipe, stage by stage: `chexnode train regenerate`, and the training worker.

curate, pretrain, examples, heads, calibrate, evaluate, patients, bundle, gate, report. Who registers the bundle is the
caller.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from rich.console import Console

from schemas.bundle import Metric
from schemas.errors import BundleMakingError
from training.evaluation.cases import Cases, load_cases, save_cases
from training.learning.loop import CurvePoint
from training.progress import Watcher, training_progress
from training.regeneration.card import write_card
from training.regeneration.gate import GateVerdict, gate_table, judge
from training.regeneration.look_making import LookMaking
from training.regeneration.making import BUNDLE, curves
from training.regeneration.recipe import Recipe
from training.regeneration.report import TEMPLATE, Report, write_report
from training.regeneration.stages import Stage, Stages
from training.sources.catalogue import Named, parse
from workers.bundle import LoadedBundle, copy_bundle, load_bundle
from workers.metrics_table import metrics_table

#: Stages of a run, those that are left out included.
_STAGES = 12
_CASES = "cases.npz"
_METRICS = "metrics.json"
_METRIC_LIST = TypeAdapter(list[Metric])


@dataclass(frozen=True)
class Regenerated:
    """A bundle as it was made, and what is to be said of it."""

    #: In the cache of stages, whatever the gate says.
    bundle: LoadedBundle
    #: report.html with its pictures.
    report: Path
    #: None: the recipe has no gate.
    verdict: GateVerdict | None

    @property
    def may_be_registered(self) -> bool:
        return self.verdict is not None and self.verdict.passed

    @property
    def refused(self) -> bool:
        return self.verdict is not None and not self.verdict.passed


def regenerate(
    recipe: Recipe,
    cache: Path,
    console: Console,
    *,
    sources: Sequence[str] = (),
    active: LoadedBundle | None = None,
    watcher: Watcher | None = None,
) -> Regenerated:
    """Make the recipe's bundle in the folder `cache`; what an earlier run, also a killed one, has made is used.

    Parameters
    ----------
    sources : folders of real radiographs, each "kind=folder"; the recipe says which of them it uses
    active : the bundle that analyses at present, which the new one must not be worse than
    watcher : is told of the progress; what it raises ends the run

    Raises BundleMakingError when training comes to nothing, SourceError when a folder is not what it should be.
    """
    try:
        return _regenerate(recipe, cache, console, [parse(each) for each in sources], active, watcher)
    except FloatingPointError as error:
        raise BundleMakingError(f"{error} Give the recipe a smaller learning rate.") from error


def _regenerate(
    recipe: Recipe,
    cache: Path,
    console: Console,
    sources: Sequence[Named],
    active: LoadedBundle | None,
    watcher: Watcher | None,
) -> Regenerated:
    with training_progress(console, watcher) as progress:
        stages = Stages(cache, progress, _STAGES)
        making = LookMaking(recipe, sources, progress)
        calibrated = making.train(stages)
        evaluated = stages.make(
            "evaluate",
            lambda folder: _evaluate(making, calibrated, folder),
            inputs=[calibrated],
            part=recipe.evaluation,
            code=making.code_of_evaluation,
        )
        measured = [evaluated, *_on_patients(making, stages, calibrated)]
        made = stages.make(
            "bundle",
            lambda folder: _write_bundle(recipe, making, stages, calibrated, measured, folder),
            inputs=[calibrated, *measured],
            part=recipe,
            code=["training.regeneration.card"],
        )
        bundle = load_bundle(made.folder / BUNDLE)
        verdict = _gate(recipe, making, stages, bundle, evaluated, active)
        report = stages.make(
            "report",
            lambda folder: write_report(_report(stages, bundle, evaluated, verdict), folder),
            inputs=[made],
            part=[verdict, TEMPLATE.read_text(encoding="utf-8")],
            code=["training.regeneration.report", "training.regeneration.plots"],
        )
    manifest = bundle.manifest
    console.print(metrics_table(manifest.metrics, f"{manifest.name} {manifest.version}"))
    if verdict is not None:
        console.print(gate_table(verdict))
    console.print(f"bundle {bundle.digest[:16]} in {bundle.folder}", soft_wrap=True, highlight=False)
    console.print(f"report {report.folder / 'report.html'}", soft_wrap=True, highlight=False)
    return Regenerated(bundle, report.folder / "report.html", verdict)


def put_bundle(bundle: LoadedBundle, out: Path) -> None:
    """Copy the bundle to the folder `out`, which is replaced only when everything is there."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(bundle.folder, partial)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _evaluate(making: LookMaking, calibrated: Stage, folder: Path) -> None:
    evaluated = making.evaluate(load_bundle(calibrated.folder / BUNDLE), folder)
    save_cases(evaluated.cases, folder / _CASES)
    (folder / _METRICS).write_bytes(_METRIC_LIST.dump_json(evaluated.metrics, indent=2))


def _on_patients(making: LookMaking, stages: Stages, calibrated: Stage) -> list[Stage]:
    """The stage that measures on radiographs; none without any."""
    if making.patients is None:
        stages.skip("patients", "no real radiographs are given")
        return []

    def work(folder: Path) -> None:
        metrics = making.on_patients(load_bundle(calibrated.folder / BUNDLE), folder)
        (folder / _METRICS).write_bytes(_METRIC_LIST.dump_json(metrics, indent=2))

    code = [*making.code_of_evaluation, "training.curation", "training.sources"]
    return [stages.make("patients", work, inputs=[calibrated], part=making.patients, code=code)]


def _write_bundle(
    recipe: Recipe, making: LookMaking, stages: Stages, calibrated: Stage, measured: Sequence[Stage], folder: Path
) -> None:
    figures = [_METRIC_LIST.validate_json((stage.folder / _METRICS).read_bytes()) for stage in measured]
    draft = load_bundle(calibrated.folder / BUNDLE)
    manifest = draft.manifest.model_copy(
        update={
            "created": datetime.now(UTC).date(),
            "metrics": [figure for of_stage in figures for figure in of_stage],
            "training": _provenance(recipe, making, stages),
        }
    )
    copy_bundle(draft, folder / BUNDLE, manifest, write_card(manifest))


def _gate(
    recipe: Recipe,
    making: LookMaking,
    stages: Stages,
    bundle: LoadedBundle,
    evaluated: Stage,
    active: LoadedBundle | None,
) -> GateVerdict | None:
    rules = recipe.gate
    if rules is None:
        stages.skip("gate", "the recipe has none, so the bundle is not registered")
        return None
    beside: Cases | None = None
    inputs = [evaluated]
    if active is not None:
        read = stages.make(
            "active",
            lambda folder: save_cases(making.cases(active), folder / _CASES),
            part=[active.digest, recipe.evaluation],
            code=making.code_of_evaluation,
        )
        beside = load_cases(read.folder / _CASES)
        inputs.append(read)
    names = _name(bundle), _name(active) if active else None

    def work(folder: Path) -> None:
        verdict = judge(rules, load_cases(evaluated.folder / _CASES), beside, names)
        (folder / "gate.json").write_text(verdict.model_dump_json(indent=2) + "\n", encoding="utf-8")

    stage = stages.make(
        "gate",
        work,
        inputs=inputs,
        part=[rules, *names],
        code=["training.regeneration.gate", "training.evaluation.cases", "training.evaluation.statistics"],
    )
    return GateVerdict.model_validate_json((stage.folder / "gate.json").read_bytes())


def _name(bundle: LoadedBundle) -> str:
    return f"{bundle.manifest.name} {bundle.manifest.version} ({bundle.digest[:12]})"


def _report(stages: Stages, bundle: LoadedBundle, evaluated: Stage, verdict: GateVerdict | None) -> Report:
    return Report(
        manifest=bundle.manifest,
        digest=bundle.digest,
        cases=load_cases(evaluated.folder / _CASES),
        curves=curves(stages.done),
        pictures=[path for stage in stages.done for path in sorted(stage.folder.glob("*.png"))],
        stages=[stage.document for stage in stages.done],
        verdict=verdict,
    )


def _provenance(recipe: Recipe, making: LookMaking, stages: Stages) -> dict[str, Any]:
    return {
        "data": making.data,
        **({} if making.pretrained_with is None else {"pretraining": making.pretrained_with}),
        "attribution": list(making.attribution),
        "recipe": recipe.model_dump(mode="json", exclude={"bundle", "population"}),
        "stages": {stage.document.name: stage.document.key for stage in stages.done},
        "last_losses": {name: _last_losses(curve) for name, curve in curves(stages.done).items()},
        "minutes": round(math.fsum(stage.document.seconds for stage in stages.done) / 60, 1),
        "torch": str(torch.__version__),
    }


def _last_losses(curve: Sequence[CurvePoint]) -> dict[str, float]:
    last = curve[-20:]
    return {name: round(math.fsum(p.losses[name] for p in last) / len(last), 4) for name in last[0].losses}
