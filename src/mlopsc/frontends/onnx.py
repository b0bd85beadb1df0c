"""Frontend *onnx*: files and folders that hold ONNX models already.

The importer reads them (``importer/onnx_file.py``); nothing is converted. A folder is what Hugging
Face Optimum and the like write: one ``.onnx`` file with ``config.json`` beside it.
"""

from __future__ import annotations

from pathlib import Path

from mlopsc.errors import SourceError
from mlopsc.frontends.base import LoadOptions, Original
from mlopsc.frontends.content import Content, varint

TITLE = "ONNX"
EXTRA = ""
MODULES: tuple[str, ...] = ()


def recognise(content: Content) -> str | None:
    """Return what it is: protobuf fields of ``ModelProto``, or a file that is named ``.onnx``."""
    if content.is_folder:
        found = [name for name in content.files if name.endswith(".onnx")]
        if len(found) > 1:
            raise SourceError(
                f"the folder '{content.path}' holds {len(found)} ONNX models: {', '.join(found)}; "
                "expected one",
                hint="name the file that is meant",
            )
        return f"ONNX model {found[0]} of a folder" if found else None
    if content.head[4:8] == b"ORTM":
        raise SourceError(
            f"'{content.path}' is an ONNX Runtime model (.ort), optimised for one runtime; "
            "expected the ONNX file that it was made of",
            hint="import that .onnx file; it is what convert_onnx_models_to_ort was given",
        )
    if content.suffix == ".onnx" or _is_model(content.head):
        return "ONNX model"
    return None


def onnx_file(path: Path) -> Path:
    """Return the ONNX file that ``path``, which was recognised, is or holds."""
    if not path.is_dir():
        return path
    return next(iter(sorted(path.glob("*.onnx"))))


def load(path: Path, options: LoadOptions) -> Original:
    """Not called: the importer reads ONNX."""
    raise NotImplementedError


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return None: an ONNX model that is in memory is saved to a file first."""
    del model, example, options
    return None


def _is_model(head: bytes) -> bool:
    """Whether ``head`` begins like a ``ModelProto``: fields 1, 2 and so on, of their wire types."""
    wire = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
    place, seen = 0, set[int]()
    while place < len(head) and len(seen) < 3:
        key, place = varint(head, place)
        field, kind = key >> 3, key & 7
        if wire.get(field) != kind:
            return False
        seen.add(field)
        size, place = varint(head, place)
        if field == 1 and not 1 <= size <= 100:  # ir_version
            return False
        if kind == 2:
            place += size
    return 1 in seen and len(seen) > 1
