"""Samples for calibration and measurement: vectors of a bundle, files of arrays, images.

Ensures: what is yielded fits the signature and is finite; the order depends on names alone, and
nothing is held in memory that has not been asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.bundle import Bundle
from mlopsc.data import read_contents
from mlopsc.errors import InputError, MissingToolError, QuantizationError
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.quantize import DataUsed
from mlopsc.vectors_file import fit, load_vectors

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Load = Callable[[], Arrays]
_IMAGES: Final = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm")
_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}  # of images, by number of channels
_FORMATS: Final = f".npy, .npz and images ({', '.join(_IMAGES)})"


@dataclass(frozen=True)
class Samples:
    """Raw inputs of a bundle.

    Attributes:
        used: What they are, for the report.
        loads: Each gives one sample.
        labels: The class of each, or empty.
    """

    used: DataUsed
    loads: tuple[Load, ...]
    labels: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[Arrays]:
        """Yield one sample after the other."""
        return (load() for load in self.loads)


def of_vectors(bundle: Bundle, limit: int | None = None) -> Samples:
    """Return the bundle's own vectors.

    Raises:
        QuantizationError: One is not finite.
    """
    for number, vector in enumerate(bundle.vectors):
        _check_finite(vector.inputs, f"vector {number} of the bundle")
    vectors: list[Load] = [partial(dict, vector.inputs) for vector in bundle.vectors]
    chosen = _spread(len(vectors), limit)
    labels = bundle.manifest.vectors.labels
    return Samples(
        DataUsed(origin="vectors", samples=len(chosen)),
        tuple(vectors[i] for i in chosen),
        tuple(labels[i] for i in chosen) if labels else (),
    )


def of_path(path: Path, specs: Sequence[TensorSpec], limit: int | None = None) -> Samples:
    """Return the samples of a file, or of all files in a folder.

    Args:
        path: ``.npz`` with one array per input, the first axis counting samples, and optionally
            ``label``; ``.npy`` of one sample, or of several along the first axis, for a model
            with one input; an image; or a folder of these.
        specs: Raw inputs of the bundle.
        limit: How many are used at most; evenly spread over all of them.

    Raises:
        InputError: Something does not fit the signature.
        QuantizationError: There is nothing, or something is not finite.
        MissingToolError: Images cannot be read here.
    """
    files = _files(path)
    loads: list[Load] = []
    labels: list[int] = []
    for file in files:
        found, classes = _open(file, specs)
        loads += found
        labels += classes
    if not loads:
        raise QuantizationError(
            f"'{path}' holds no samples; expected {_FORMATS}", hint="put samples into it"
        )
    chosen = _spread(len(loads), limit)
    used = DataUsed(
        origin="folder" if path.is_dir() else "file",
        name=path.resolve().name,
        digest=read_contents(path).fingerprint().digest,
        samples=len(chosen),
    )
    kept = tuple(labels[i] for i in chosen) if len(labels) == len(loads) else ()
    return Samples(used, tuple(loads[i] for i in chosen), kept)


def _files(path: Path) -> list[Path]:
    """Return the files that may hold samples, in the order of their names."""
    try:
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if _is_data(p))
        path.stat()
        reason = "" if path.is_file() else "it is no regular file"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise QuantizationError(
            f"cannot read '{path}': {reason}; expected {_FORMATS}, or a folder of these",
            hint="check the path",
        )
    return [path]


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in (".npy", ".npz", *_IMAGES) and path.is_file()


def _spread(count: int, limit: int | None) -> list[int]:
    """Return at most ``limit`` places, evenly spread: folders are often ordered by class."""
    if limit is None or limit >= count:
        return list(range(count))
    return [place * count // limit for place in range(limit)]


def _open(file: Path, specs: Sequence[TensorSpec]) -> tuple[list[Load], Sequence[int]]:
    """Return what loads each sample of a file, and the labels."""
    suffix = file.suffix.lower()
    if suffix == ".npz":
        samples, labels = load_vectors(file, specs)
        for number, sample in enumerate(samples):
            _check_finite(sample, f"sample {number} of '{file}'")
        return [partial(dict, sample) for sample in samples], labels
    if suffix != ".npy" and suffix not in _IMAGES:
        raise QuantizationError(f"'{file}' is of no known kind; expected {_FORMATS}")
    if len(specs) != 1:
        raise InputError(
            f"'{file}' holds one array, and the model has the inputs {[s.name for s in specs]}",
            hint="give .npz files with one array per input, by name",
        )
    if suffix in _IMAGES:
        _check_pillow(file)
        return [partial(_load_image, file, specs[0])], ()
    shape = _read_array(file).shape
    if _squeezed(shape) != _squeezed(specs[0].shape) and _squeezed(shape[1:]) == _squeezed(
        specs[0].shape
    ):
        return [partial(_load_array, file, specs[0], row) for row in range(shape[0])], ()
    return [partial(_load_array, file, specs[0], None)], ()


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _read_array(file: Path) -> Array:
    try:
        found = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"cannot read '{file}'; expected an .npy file of a plain array",
            hint="write one with numpy.save(path, array)",
        ) from error
    return found


def _load_array(file: Path, spec: TensorSpec, row: int | None) -> Arrays:
    array = _read_array(file)
    try:
        sample = {spec.name: fit(np.asarray(array if row is None else array[row]), spec)}
    except InputError as error:
        raise InputError(f"'{file}': {error.message}", hint=error.hint) from error
    _check_finite(sample, f"'{file}'")
    return sample


def _check_pillow(file: Path) -> None:
    if importlib.util.find_spec("PIL") is None:
        raise MissingToolError(
            f"'{file}' is an image, and the Python package 'pillow' is not installed",
            hint="install it: pip install pillow; or give .npy files",
        )


def _load_image(file: Path, spec: TensorSpec) -> Arrays:
    """Return the pixels of an image as the raw input that the bundle's preprocessing takes."""
    from PIL import Image

    shape = _squeezed(spec.shape)
    channels = shape[2] if len(shape) == 3 else 1
    if spec.dtype != "uint8" or len(shape) not in (2, 3) or channels not in _MODES:
        raise InputError(
            f"'{file}' is an image, and the input is '{spec}'; expected one of uint8 pixels, "
            "[height, width] or [height, width, channels]",
            hint="give the bundle preprocessing that takes pixels, or .npy files",
        )
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert(_MODES[channels]))
    except Exception as error:  # Pillow raises many kinds, and says what is wrong
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"cannot read '{file}' as an image: {text}", hint="take it out of the data"
        ) from error
    if pixels.shape[:2] != shape[:2]:
        raise InputError(
            f"'{file}' has {pixels.shape[0]} rows of {pixels.shape[1]} pixels; the input is "
            f"'{spec}'",
            hint="bring the images to that size as your application does",
        )
    return {spec.name: np.ascontiguousarray(pixels).reshape(spec.shape)}


def _check_finite(sample: Arrays, what: str) -> None:
    for name, array in sample.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise QuantizationError(
                f"{what}: input '{name}' holds NaN or infinity, which no range can hold",
                hint="take such samples out of the data",
            )
