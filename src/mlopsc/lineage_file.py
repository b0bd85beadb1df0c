"""Reads ``lineage.yaml``: what people say of a model's history. Nothing in it is executed."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from mlopsc.errors import LineageError
from mlopsc.schema.lineage import Lineage
from mlopsc.yaml_file import parse_yaml

LINEAGE_YAML = "lineage.yaml"
MAX_BYTES = 1 << 24


def load_lineage(path: Path) -> Lineage:
    """Read a lineage file.

    Raises:
        LineageError: It cannot be read, or a field of it is not valid.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LineageError(f"'{path}' has more than {MAX_BYTES} bytes; expected a lineage file")
        with path.open("rb") as file:
            document = parse_yaml(file)
        if document is None:  # an empty file says nothing
            document = {}
        found = Lineage.model_validate(document)
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
        return found
    except OSError as error:
        raise LineageError(
            f"cannot read '{path}': {error.strerror or error}; expected a lineage file",
            hint="check the path; 'mlopsc init' writes a working example",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LineageError(f"'{path}', {where}: {first['msg']}, not {first['input']!r}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = " ".join(str(error).split())[:300]
        raise LineageError(f"'{path}' is not valid YAML: {text}") from error
    except (TypeError, ValueError) as error:  # sets, bytes, infinities, halves of characters
        text = " ".join(str(error).split())[:300]
        raise LineageError(f"'{path}' holds a value that JSON does not have: {text}") from error
