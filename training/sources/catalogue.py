"""The sources by the names that a command line and a recipe give them: kind[:name]=where."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from schemas.errors import SourceError
from training.sources.chexpert import Chexpert
from training.sources.covid_chestxray import CovidChestxray
from training.sources.covidx import Covidx
from training.sources.folder import Folder
from training.sources.jsrt import Jsrt
from training.sources.kermany import Kermany
from training.sources.mimic import MimicCxrJpg
from training.sources.nih import ChestXray14
from training.sources.ranzcr import RanzcrClip
from training.sources.source import Source
from training.sources.tuberculosis import Tuberculosis

#: Sources that are a folder, by kind. The PACS is fetched into one (training/sources/pacs.py).
FOLDERS: dict[str, Callable[[Path], Any]] = {
    "folder": Folder,
    "kermany": Kermany,
    "nih": ChestXray14,
    "covid-chestxray": CovidChestxray,
    "covidx": Covidx,
    "chexpert": Chexpert,
    "mimic-cxr-jpg": MimicCxrJpg,
    "ranzcr-clip": RanzcrClip,
    "jsrt": Jsrt,
    "montgomery": partial(Tuberculosis, name="montgomery"),
    "shenzhen": partial(Tuberculosis, name="shenzhen"),
}
#: Real files of these were at hand as a subset with a labels.csv, but not in the publisher's folders.
SUBSETS_READ = ("kermany", "nih", "covid-chestxray")
PACS = "pacs"
PHANTOM = "phantom"


@dataclass(frozen=True)
class Named:
    """A source as somebody asked for it."""

    kind: str
    #: Tells two sources of one kind apart; the kind itself unless given.
    name: str
    #: A folder; of the PACS a destination's name or a URL; of phantoms how many.
    where: str


def parse(text: str) -> Named:
    """Read "kind=where" or "kind:name=where". Raises SourceError that lists the kinds."""
    left, separator, where = text.partition("=")
    kind, _, name = left.partition(":")
    if not separator or not where or kind not in {*FOLDERS, PACS, PHANTOM}:
        kinds = ", ".join([*FOLDERS, PACS, PHANTOM])
        raise SourceError(f"'{text}' is not kind=folder or kind:name=folder with one of the kinds {kinds}.")
    return Named(kind, name or kind, where)


def open_folder(named: Named) -> Source:
    """The source in its folder, which must exist. Raises SourceError."""
    folder = Path(named.where)
    if not folder.is_dir():
        raise SourceError(f"{folder} of the source {named.name} is not a folder.")
    source: Source = replace(FOLDERS[named.kind](folder), name=named.name)
    return source


def open_phantoms(named: Named) -> Source:
    """As many phantoms as it says. Raises SourceError."""
    # Compiles for seconds; whoever has radiographs alone need not wait.
    from training.sources.phantom import Phantoms

    if not named.where.isdecimal() or int(named.where) < 1:
        raise SourceError(f"'{named.kind}={named.where}' is not phantom=COUNT with a count of 1 or more.")
    return Phantoms(int(named.where), name=named.name)


def every_kind() -> list[Source]:
    """One of each kind in an empty place, for listings."""
    return [FOLDERS[kind](Path()) for kind in FOLDERS]
