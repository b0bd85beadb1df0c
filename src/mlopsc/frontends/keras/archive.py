"""What a ``.keras`` file says before Keras reads it: version, training, whether it holds code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import SourceError, UnsafeSourceError

CONFIG: Final = "config.json"
METADATA: Final = "metadata.json"
_CONFIG_BYTES: Final = 64 << 20
# Keras's own marks for values that are no objects.
_PLAIN: Final = frozenset(
    {
        "__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__",
        "__tuple__",
    }
)  # fmt: skip
# Layers of Keras that run code or read files named in the configuration.
_UNSAFE: Final = {
    "FlaxLayer": "it runs Python code",
    "JaxLayer": "it runs Python code",
    "Lambda": "it runs Python code that the file brings along",
    "TFSMLayer": "it reads and runs another model, from a path in the file",
    "TorchModuleWrapper": "it unpickles a PyTorch module",
}
_CUSTOM: Final = (
    "load it in Python, where the code is, and give the model to mlopsc.import_model; or write the "
    "layer with those of Keras"
)


@dataclass(frozen=True)
class Archive:
    """What is known of a ``.keras`` file.

    Attributes:
        keras: The version of Keras that wrote it; may be empty.
        training: How it was compiled: optimizer, loss, metrics.
    """

    keras: str
    training: dict[str, Any]


def read(path: Path) -> Archive:
    """Read and check the configuration of a ``.keras`` file.

    Raises:
        SourceError: It is damaged.
        UnsafeSourceError: It holds code, or needs code that is not Keras's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = _member(archive, CONFIG)
            metadata = _member(archive, METADATA)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' cannot be read as a .keras file: {type(error).__name__}: {text[:200]}"
        ) from error
    for place, entry in _objects({**config, "compile_config": None}, "model", 0):
        _check(entry, place, path)
    training = config.get("compile_config")
    for _ in _objects(training, "training", 0):  # it is recorded, so it must not be too deep
        pass
    version = metadata.get("keras_version")
    return Archive(
        version if isinstance(version, str) else "",
        {"training": training} if isinstance(training, dict) and training else {},
    )


def _member(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    with archive.open(name) as file:
        data = file.read(_CONFIG_BYTES + 1)
    if len(data) > _CONFIG_BYTES:
        raise ValueError(f"{name} is larger than {_CONFIG_BYTES >> 20} MiB")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no object")
    return found


def _objects(value: Any, place: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield everything in a configuration that names a class or function, with where it is."""
    if depth > 200:
        raise SourceError("the configuration of the model is nested more than 200 deep")
    if isinstance(value, dict):
        inner = value.get("config")
        name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
        place = name if isinstance(name, str) else place
        if "class_name" in value:
            yield place, value
        for entry in value.values():
            yield from _objects(entry, place, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            yield from _objects(entry, place, depth + 1)


def _check(entry: Mapping[str, Any], place: str, path: Path) -> None:
    kind, module = entry.get("class_name"), entry.get("module")
    if not isinstance(kind, str):
        raise SourceError(f"'{path}' names a class that is no string, in '{place}'")
    if kind in _PLAIN:
        return
    if kind in ("__lambda__", "__typespec__"):
        raise UnsafeSourceError(
            f"'{path}' holds Python code: a lambda in '{place}'; it was not loaded", hint=_CUSTOM
        )
    if kind in _UNSAFE:
        raise UnsafeSourceError(
            f"'{path}' holds a {kind} layer, '{place}': {_UNSAFE[kind]}; it was not loaded",
            hint=_CUSTOM,
        )
    function = kind == "function"
    name = entry.get("config") if function else kind
    ours = (
        isinstance(module, str) and (module in ("keras", "builtins") or module.startswith("keras."))
    ) or ("module" not in entry and not function)  # Keras looks such names up among its own
    registered = entry.get("registered_name")
    if not ours or (isinstance(registered, str) and ">" in registered):
        raise UnsafeSourceError(
            f"'{path}' needs the custom {'function' if function else 'class'} "
            f"{registered or name} ('{place}', module {module}), whose code is not Keras's; it "
            "was not loaded",
            hint=_CUSTOM,
        )
    inner = entry.get("config")
    if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
        raise UnsafeSourceError(
            f"'{path}' reads the file '{inner['vocabulary']}' for the layer '{place}'; it was not "
            "loaded",
            hint="give the layer its vocabulary as a list, and save the model again",
        )
