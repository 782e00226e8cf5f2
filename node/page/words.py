"""How the pages say things: times, names, distances. Each function is a filter or a function of the templates."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from urllib.parse import urlencode

from node.results.foremost import enumerated, pressing_first
from node.results.image_states import Analysis
from node.results.study_record import Reading
from node.worklist import Row, Selection, Show
from schemas.codes import Device, Finding, Segment
from schemas.result import EngineReference, ImageResult
from schemas.tables import Study


def duration(seconds: float) -> str:
    """A length of time as a reader says it: "under a minute", "12 min", "3 h 05 min", "2 d 4 h"."""
    minutes = int(abs(seconds) // 60)
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def clock(seconds: float | None, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Seconds since 1970 UTC as local time of this host; "" for None."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone().strftime(pattern)


def person_name(value: str) -> str:
    """A Person Name (PS3.5 6.2.1.2): "Yamada, Tarou · 山田 太郎 · やまだ たろう"."""
    groups: list[str] = []
    for group in value.split("="):
        family, *others = (re.sub(r"\s+", " ", part).strip() for part in group.split("^"))
        rest = " ".join(part for part in others if part)
        # Ideographic and phonetic names are not written with a comma.
        separator = ", " if group.isascii() or not groups else " "
        groups.append(separator.join(part for part in (family, rest) if part))
    return " · ".join(dict.fromkeys(group for group in groups if group))


def dicom_time(value: str) -> str:
    """YYYYMMDD[HHMM[SS]] as "2026-11-22 14:05"; what is no date as it stands."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})\d{0,2})?", value)
    if not match:
        return value
    year, month, day, hour, minute = match.groups()
    return f"{year}-{month}-{day}" + (f" {hour}:{minute}" if hour else "")


def age(study: Study) -> str:
    """Age at the study, "66 y", for children under three "14 mo"; "" when the dates do not tell."""
    try:
        born = datetime.strptime(study.patient_birth_date, "%Y%m%d").date()
        on = datetime.strptime(study.study_date_time[:8], "%Y%m%d").date()
    except ValueError:
        return ""
    months = (on.year - born.year) * 12 + on.month - born.month - (on.day < born.day)
    if months < 0 or born < date(1850, 1, 1):
        return ""
    return f"{months // 12} y" if months >= 36 else f"{months} mo"


def doubts(row: Row) -> list[str]:
    """What a reader of the row must not take for normal: each a sentence."""
    said = [f"The result of {each.bundle_name} cannot be read by this version of CheXNode." for each in row.unreadable]
    bundles = sorted({part.bundle for image in row.images for part in image.parts})
    for bundle in bundles if row.is_answered else []:
        by = f" by {bundle}" if len(bundles) > 1 else ""
        said += _unfinished([image.under(bundle) for image in row.images], by)
    waiting = sum(image.instance.selected and not image.parts for image in row.images)
    if row.is_answered and waiting:
        said.append(f"{waiting} more {'image waits' if waiting == 1 else 'images wait'} to be analysed.")
    said += refusals(row)
    aside = row.count(Analysis.SET_ASIDE)
    if row.is_answered and aside:
        said.append(f"{aside} more {'image was' if aside == 1 else 'images were'} not analysed.")
    if row.conflicts:
        said.append(f"{row.conflicts} contradicting {'object' if row.conflicts == 1 else 'objects'} in quarantine.")
    open_questions = [finding.code.meaning.lower() for finding in pressing_first(_not_assessed(row))]
    if open_questions:
        said.append(f"Not assessed: {enumerated(open_questions)}.")
    return said


def refusals(row: Row) -> list[str]:
    """Why images of the study were refused before any finding, and by which of several bundles: each a sentence."""
    said = []
    for bundle in row.bundles:
        by = f" by {bundle.name}" if len(row.bundles) > 1 else ""
        reasons = [image.refused for image in bundle.images if image.refused]
        for reason in dict.fromkeys(reasons):
            of = "Not" if len(row.images) == 1 else f"{reasons.count(reason)} of {len(row.images)} images not"
            said.append(f"{of} analysed{by}: {reason}.")
    return said


def _unfinished(images: list[Analysis | None], by: str) -> list[str]:
    """How many of a study's images a bundle has not analysed; None stands for one that it has nothing to do with."""
    concerned = [each for each in images if each is not None]
    of = f"of {len(concerned)} image{'s' if len(concerned) > 1 else ''}"
    pending, failed = concerned.count(Analysis.PENDING), concerned.count(Analysis.FAILED)
    said = []
    if pending:
        said.append(f"{pending} {of} {'is' if pending == 1 else 'are'} still being analysed{by}.")
    if failed:
        said.append(f"{failed} {of} could not be analysed{by}.")
    return said


def _not_assessed(row: Row) -> set[Finding]:
    """Findings that were asked for on an image and that no bundle could tell there."""
    asked: set[tuple[str, Finding]] = set()
    told: set[tuple[str, Finding]] = set()
    for image in row.results:
        for each in image.findings:
            (asked if each.present is None else told).add((image.sop_instance_uid, each.finding))
    return {finding for _, finding in asked - told}


def disagreements(readings: list[Reading]) -> list[str]:
    """What bundles say differently of one image: each a sentence that names them."""
    said: dict[str, dict[str, list[str]]] = {}
    for reading in readings:
        word = f"refused ({reading.result.refused})" if reading.result.refused else "analysed"
        said.setdefault("This image", {}).setdefault(word, []).append(reading.bundle.name)
        for each in reading.result.findings:
            if each.present is not None:
                word = "present" if each.present else "absent"
                said.setdefault(each.finding.code.meaning, {}).setdefault(word, []).append(reading.bundle.name)
        for tube in reading.result.tubes:
            word = (tube.position.value.replace("_", " ") if tube.position else "seen") if tube.present else "absent"
            said.setdefault(tube.device.code.meaning, {}).setdefault(word, []).append(reading.bundle.name)
    return [
        f"{subject}: {', '.join(f'{word} for {enumerated(names)}' for word, names in answers.items())}."
        for subject, answers in said.items()
        if len(answers) > 1
    ]


def is_named(target: str) -> bool:
    """Whether an evidence map is of something in the vocabulary: of nothing else does a result say anything."""
    return target in list(Finding) or target.split(".")[0] in list(Device)


def target_words(target: str) -> str:
    """What an evidence map is of; the target must be in the vocabulary (`is_named`)."""
    if "." in target:
        device, aspect = target.split(".", 1)
        return f"{Device(device).code.meaning}: {aspect}"
    return Finding(target).code.meaning


def said_of(image: ImageResult, target: str) -> str:
    """What the result says of the finding that an evidence map is of: ", present"; "" for devices."""
    words = {True: ", present", False: ", absent", None: ", undetermined"}
    return next((words[each.present] for each in image.findings if each.finding.value == target), "")


def engine_words(engine: EngineReference) -> str:
    """What computed a result: "torch, cpu, float32"."""
    return f"{engine.name}, {engine.device}, {engine.precision}"


def identity(study: Study) -> str:
    """What tells a patient from another of the same name: sex, date of birth, age, Patient ID."""
    years = age(study)
    born = f"{dicom_time(study.patient_birth_date)}{f' ({years})' if years else ''}"
    return " · ".join(part for part in (study.patient_sex, born, study.patient_id) if part)


def segment_words(segment: Segment) -> str:
    return segment.code.meaning


def everywhere(selected: Selection) -> Selection:
    """The same search among all studies."""
    return replace(selected, show=Show.ALL, page=0)


def query(selected: Selection, page: int | None = None) -> str:
    """The query string of a selection, of another page of it where given."""
    parts = {
        "q": selected.search,
        "show": selected.show.value,
        "urgency": selected.urgency.value if selected.urgency else "",
        "flagged": "true" if selected.flagged else "",
        "page": str(selected.page if page is None else page),
    }
    return urlencode({name: value for name, value in parts.items() if value and value != "0"})
