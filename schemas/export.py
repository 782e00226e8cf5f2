"""Writes the JSON Schemas of the documents that others read, beside this file: `python -m schemas.export`."""

import json
from pathlib import Path

from pydantic import BaseModel

from schemas.bundle import Manifest
from schemas.result import StudyResult

EXPORTED: dict[str, type[BaseModel]] = {"result.schema.json": StudyResult, "bundle.schema.json": Manifest}


def schema_text(document: type[BaseModel]) -> str:
    """JSON Schema (2020-12) of the document as it is serialised."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document.model_json_schema(mode="serialization"),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, document in EXPORTED.items():
        Path(__file__).with_name(name).write_text(schema_text(document), encoding="utf-8")
