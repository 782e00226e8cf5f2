"""The exported JSON Schemas are those of the documents."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import schemas
from schemas.export import EXPORTED, schema_text


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_schema_is_current_and_valid(name: str) -> None:
    text = (Path(schemas.__file__).parent / name).read_text(encoding="utf-8")
    assert text == schema_text(EXPORTED[name]), "run: python -m schemas.export"


@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_schema_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(json.loads(schema_text(EXPORTED[name])))
