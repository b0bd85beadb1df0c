"""What a user may say about an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_OPTIONS = ("preprocess", "postprocess", "vectors", "lineage")  # those that are files


@dataclass(frozen=True)
class ImportOptions:
    """What a user may say about an import.

    Attributes:
        preprocess: ONNX file whose outputs are the model's inputs, by name, or what becomes one:
            steps or a Python file (``mlopsc.steps``).
        postprocess: The same, whose inputs are the model's outputs, by name.
        vectors: ``.npz`` of raw inputs and optionally labels.
        bind: Sizes of symbolic dimensions, lengths of inputs that are sequences.
        name: Name of the model; the file's name by default.
        version: The user's version of the model.
        trained_with: Digest of the preprocessing that trained the model.
        lineage: ``lineage.yaml``.
        find_lineage: Whether one that lies beside the model is taken.
        split: Whether preprocessing found at the head of a framework's model becomes a stage.
        signature: Which signature of a source that holds several.
        trust: Types, by full name, that a source may hold although nobody vouches for them.
        accept_divergence: Why the bundle may compute something else than the original; recorded.
    """

    preprocess: Path | None = None
    postprocess: Path | None = None
    vectors: Path | None = None
    bind: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None
    version: str = "0"
    trained_with: str | None = None
    lineage: Path | None = None
    find_lineage: bool = True
    split: bool = True
    signature: str | None = None
    trust: tuple[str, ...] = ()
    accept_divergence: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that ``from_json`` reads."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ImportOptions:
        """Return the options that ``to_json`` gave."""
        paths = {n: Path(values[n]) if values[n] is not None else None for n in FILE_OPTIONS}
        return ImportOptions(**{**values, **paths, "trust": tuple(values["trust"])})
