"""Writing files whole: who is killed leaves the old file or the new one. Used by the PACS fetch and by curation."""

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write under another name in the same folder, then rename."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.rename(path)
