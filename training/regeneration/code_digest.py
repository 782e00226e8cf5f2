"""The digest of source code: what other code makes is another thing. Called for the keys of stages."""

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


def code_digest(names: Iterable[str]) -> str:
    """SHA-256 (hex) over the source of these modules, in any order; a package means every module in it.

    Raises ModuleNotFoundError for a name that is none.
    """
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        for path in _sources(name):
            digest.update(f"{name}\0{path.name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sources(name: str) -> list[Path]:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r} with a source.", name=name)
    origin = Path(spec.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
