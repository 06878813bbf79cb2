"""The JSON Schema of the matrix file, for editors. `python -m farm.matrix.schema` writes it into `matrices/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from farm.model import Matrix

FILE = Path("matrices/matrix.schema.json")
"""From the root of the project."""


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `farm.matrix.load` accepts, shorthands included.

    It cannot see what takes more than one value to know: reserved axes, ids, axes that hide `env`.
    """
    generated = Matrix.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_tidy(generated)}


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any) -> Any:
    """Close what pydantic leaves open: a name that fits no pattern. Drop titles that repeat the key."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return tidy | {"additionalProperties": False} if "patternProperties" in tidy else tidy


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
