"""Models and their packages, kept in a folder so that what has not changed is not built again.

Each model has one folder. A model is made again when the zoo or the onnx package changes; its
package when the model, the compiler or what the compiler reads changes. What failed is kept too.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from zoo import INTEGER_MODELS, MODELS
from zoo.inputs import draw_inputs

import mlopsc
from mlopsc.errors import MlopscError
from mlopsc.resources import kernels_dir, targets_dir

ZOO = Path(__file__).resolve().parent / "zoo"
VECTORS = 2


@dataclass(frozen=True)
class Built:
    """A package, or why there is none.

    Attributes:
        package: Folder of the package, which conforms; None if it failed.
        failure: The stage that failed and its error, or "".
        seconds: How long each stage took, by its name.
    """

    package: Path | None
    failure: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Store:
    """The folder of models and packages."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in ``folder``, which is made when it is missing."""
        self.folder = folder

    def model(self, name: str) -> Path:
        """Return the file of a model of the zoo.

        Raises:
            FileNotFoundError: It needs files that are not there.
        """
        folder = self.folder / name
        path, state = folder / f"{name}.onnx", folder / "model.json"
        key = {"zoo": tree_digest(ZOO), "onnx": version("onnx")}
        if not path.is_file() or _read(state) != key:
            model = {**MODELS, **INTEGER_MODELS}[name]()
            folder.mkdir(parents=True, exist_ok=True)
            onnx.save(model, path)
            state.write_text(json.dumps(key), encoding="utf-8")
        return path

    def package(self, model: Path) -> Built:
        """Return the package of a model for ``host``: imported, built and conforming."""
        folder = model.parent
        state, package = folder / "package.json", folder / "host"
        key = {
            "model": hashlib.sha256(model.read_bytes()).hexdigest(),
            "mlopsc": mlopsc.__version__,
            "source": compiler_digest(),
        }
        found = _read(state)
        if found is None or found["key"] != key:
            built = build_package(model, folder)
            found = {"key": key, "failure": built.failure, "seconds": built.seconds}
            state.write_text(json.dumps(found), encoding="utf-8")
        failure = found["failure"]
        return Built(None if failure else package, failure, found["seconds"])


def build_package(model: Path, folder: Path) -> Built:
    """Import ``model``, build it for ``host`` and prove it, all in ``folder``.

    The bundle is ``model.mlb`` there, the package ``host``.
    """
    bundle, vectors = folder / "model.mlb", folder / "vectors.npz"
    proto = onnx.load(model)
    samples = [draw_inputs(proto, seed) for seed in range(VECTORS)]
    np.savez(vectors, **{n: np.stack([s[n] for s in samples]) for n in samples[0]})  # type: ignore[arg-type]
    del proto
    anew = {"force": True, "cache": False}  # the seconds are those of making it
    stages: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("import", lambda: mlopsc.import_model(model, bundle, vectors=vectors, **anew)),
        ("build", lambda: mlopsc.build(bundle, "host", folder, **anew)),
        ("conform", lambda: _conform(folder / "host", bundle)),
    )
    seconds = {}
    for stage, run in stages:
        start = time.monotonic()
        try:
            run()
        except MlopscError as error:
            return Built(None, f"{stage}: {error.message}", seconds)
        except Exception as error:  # a defect of the compiler must not end the other measurements
            return Built(None, f"{stage}: {type(error).__name__}: {error}", seconds)
        seconds[stage] = time.monotonic() - start
    return Built(folder / "host", seconds=seconds)


def _conform(package: Path, bundle: Path) -> None:
    report = mlopsc.conform(package, bundle=bundle)
    if report.verdict != "pass":
        errors = (f"{o.name} {o.relative_to_max:.1e} of max, tolerance {o.tolerance:g}"
                  for o in report.outputs)  # fmt: skip
        raise MlopscError(f"the verdict is {report.verdict}: {'; '.join(errors)}")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@cache
def compiler_digest() -> str:
    """Return a digest of the compiler and of what it reads."""
    parts = [tree_digest(p) for p in (Path(mlopsc.__file__).parent, kernels_dir(), targets_dir())]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@cache
def tree_digest(folder: Path) -> str:
    """Return a digest of all files below ``folder`` but compiled Python."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
