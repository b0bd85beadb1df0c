"""Frontend *keras*: ``.keras`` files, and models of Keras in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mlopsc.errors import MissingToolError, SourceError, UnsafeSourceError
from mlopsc.frontends.base import LoadOptions, Original, type_names
from mlopsc.frontends.content import Content
from mlopsc.frontends.keras import archive
from mlopsc.schema.lineage import Framework

TITLE = "Keras"
EXTRA = "tensorflow"
MODULES = ("keras", "tensorflow", "tf2onnx")
_SAFE_SINCE: Final = "3.13.2"  # CVE-2026-1669: weights in files that a HDF5 file names


def recognise(content: Content) -> str | None:
    """Return what it is: a zip archive with the members that Keras 3 writes.

    Raises:
        SourceError: The archive is not whole.
    """
    if {archive.CONFIG, archive.METADATA} <= set(content.members):
        return "Keras model (.keras)"
    if content.suffix == ".keras":
        raise SourceError(
            f"'{content.path}' is named .keras, but is {content.describe()}; expected a zip "
            f"archive with {archive.CONFIG} and {archive.METADATA}",
            hint="save it again: model.save('m.keras')",
        )
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a ``.keras`` file in Keras's safe mode.

    Raises:
        MissingToolError: Keras is too old to load files of others.
        SourceError: It is damaged.
        UnsafeSourceError: It holds code, or needs code that is not Keras's.
    """
    del options
    found = archive.read(path)
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    import_tensorflow()
    import keras

    from mlopsc.frontends.keras.model import KerasModel

    if _numbers(keras.__version__) < _numbers(_SAFE_SINCE):
        raise MissingToolError(
            f"Keras {keras.__version__} reads files outside the one it loads; expected "
            f"{_SAFE_SINCE} or newer",
            hint=f"install it: pip install 'keras>={_SAFE_SINCE}'",
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # Keras raises whatever comes
        text = " ".join(str(error).split())
        if "safe_mode" in text:
            raise UnsafeSourceError(f"'{path}' holds code: {text[:300]}") from error
        raise SourceError(
            f"'{path}' cannot be loaded with Keras {keras.__version__}: {type(error).__name__}: "
            f"{text[:300]}"
        ) from error
    original = KerasModel(model)
    original.configuration = found.training
    if found.keras:
        original.written_by = f"Keras {found.keras}"
        original.frameworks = (Framework(name="Keras", version=found.keras),)
    return original


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a model that is in memory.

    ``example`` is an array, or arrays in the structure that the model takes: for models that have
    never been called.
    """
    del options
    if "keras.src.models.model.Model" not in type_names(model):
        return None
    from mlopsc.frontends.keras.model import KerasModel

    return KerasModel(model, example)
