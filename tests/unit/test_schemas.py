"""The JSON Schemas that are shipped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from agent.schemas import FOLDER, SCHEMAS, write_schemas

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_shipped_schemas_are_the_generated_ones(tmp_path: Path, name: str) -> None:
    """A changed struct needs a new file: python -c 'from agent.schemas import write_schemas; write_schemas()'."""
    write_schemas(tmp_path)
    file = f"{name}-v1.schema.json"
    assert (FOLDER / file).read_text() == (tmp_path / file).read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads((FOLDER / file).read_text()))


def test_no_other_schema_is_shipped() -> None:
    """Each file is of a payload that there is."""
    assert {file.name for file in FOLDER.iterdir()} == {f"{name}-v1.schema.json" for name in SCHEMAS}
