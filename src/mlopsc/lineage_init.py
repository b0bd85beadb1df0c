"""Writes a ``lineage.yaml`` to edit: what can be found out is filled in, the rest is explained.

Found out: the repository and commit of the folder, the exporter that the model's file names, the
frameworks that are installed here, and the digests of data and preprocessing that are given.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import onnx
from google.protobuf.message import DecodeError

from mlopsc.data import digest_text, read_contents
from mlopsc.errors import CompilerError, SourceError
from mlopsc.frontends import ONNX, recognise
from mlopsc.frontends.onnx import onnx_file
from mlopsc.schema.common import Digest
from mlopsc.schema.lineage import Dataset, Framework, Lineage, TrainingCode
from mlopsc.tools import run_program

# Distributions that train models or make data for them.
_FRAMEWORKS = (
    "torch", "tensorflow", "keras", "jax", "flax", "scikit-learn", "xgboost", "lightgbm",
    "catboost", "transformers", "numpy", "pandas",
)  # fmt: skip


def synthesise(
    folder: Path, model: Path | None, data: Sequence[Path], preprocessing: Digest | None
) -> Lineage:
    """Return what can be found out about a model's history.

    Args:
        folder: Where the training code is; its repository is looked at.
        model: A model that a frontend recognises, or None.
        data: Files and folders of the training data; each is fingerprinted.
        preprocessing: Digest of the preprocessing that made the inputs.

    Raises:
        SourceError: The model is nothing that a frontend recognises.
        DataError: Data cannot be read.
    """
    return Lineage(
        datasets=tuple(
            Dataset(name=path.resolve().name, digest=digest_text(read_contents(path).digest))
            for path in data
        ),
        code=_code(folder),
        frameworks=tuple(_frameworks(model)),
        preprocessing=preprocessing,
    )


def lineage_text(lineage: Lineage) -> str:
    """Return ``lineage`` as a YAML file with comments, to be completed by a person."""
    code = lineage.code
    parts = [
        _HEAD,
        _DATASETS if not lineage.datasets else "",
        "datasets:" + ("".join(map(_dataset, lineage.datasets)) or " []") + "\n",
        _CODE.format(
            repository=_text(code.repository),
            commit=_text(code.commit),
            dirty={None: "null", True: "true", False: "false"}[code.dirty],
        ),
        _FRAMEWORK_HEAD,
        "frameworks:"
        + (
            "".join(
                f"\n  - {{name: {_text(f.name)}, version: {_text(f.version)}}}"
                for f in lineage.frameworks
            )
            or " []"
        )
        + "\n",
        _TAIL.format(preprocessing=_text(lineage.preprocessing)),
    ]
    return "".join(parts)


def _dataset(data: Dataset) -> str:
    return (
        f"\n  - name: {_text(data.name)}\n"
        f"    version: {_text(data.version)}            # the owner's name for this version\n"
        f"    digest: {_text(data.digest)}\n"
        '    licence: ""            # SPDX identifier, like CC-BY-4.0, or name of a contract\n'
        "    sensitivity: null      # public, internal, confidential, personal, special-category\n"
        '    owner: ""              # who answers for the data\n'
        f"    role: {data.role}         # training, validation, test, calibration\n"
        '    url: ""'
    )


def _text(value: str | None) -> str:
    """Return a YAML scalar; JSON strings are."""
    return json.dumps(value, ensure_ascii=False)


def _code(folder: Path) -> TrainingCode:
    """Return the repository and commit of a folder; nothing if it has none."""
    git = shutil.which("git")
    if git is None:
        return TrainingCode()

    def ask(*arguments: str) -> str | None:
        try:
            done = run_program(Path(git), ["-C", str(folder.resolve()), *arguments], timeout=60)
        except CompilerError:
            return None
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return TrainingCode()
    remote = ask("remote", "get-url", "origin") or ""
    changes = ask("status", "--porcelain")
    return TrainingCode(
        repository=without_credentials(remote),
        commit=commit if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) else "",
        dirty=None if changes is None else bool(changes),
    )


def without_credentials(url: str) -> str:
    """Return a URL of a repository without the user and password that it may hold."""
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _frameworks(model: Path | None) -> list[Framework]:
    found = [Framework(name="Python", version=platform.python_version())]
    for name in _FRAMEWORKS:
        try:
            found.append(Framework(name=name, version=version(name)))
        except PackageNotFoundError:
            continue
    if model is not None:
        producer, number = _producer(model)
        if producer and producer not in {f.name for f in found}:
            found.insert(0, Framework(name=producer, version=number))
    return found


def _producer(model: Path) -> tuple[str, str]:
    """Return what an ONNX file names as its exporter; nothing of other models."""
    if recognise(model).framework != ONNX:
        return "", ""
    try:
        proto = onnx.load(onnx_file(model), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise SourceError(f"cannot read '{model}' as an ONNX file") from error
    return proto.producer_name, proto.producer_version


_HEAD = """\
# How this model came to be. 'mlopsc import' takes this file from beside the model, or from
# --lineage, and puts it into the bundle; 'mlopsc trace' shows it, from any package. What you leave
# empty is recorded as unknown. docs/lineage.md explains every field.
schema_version: 1

# What the model is, for the model card of the bill of materials.
model:
  licence: ""              # SPDX identifier of the weights, such as Apache-2.0
  owner: ""                # who answers for the model
  description: ""
  task: ""                 # such as image-classification
  architecture: ""         # such as convolutional neural network
  intended_use: []         # what it was made for, one sentence each
  limitations: []          # where it is known to fail
  ethical_considerations: []

# What it was trained and measured on. 'mlopsc data fingerprint PATH' gives the digest.
"""
_DATASETS = """\
# datasets:
#   - name: my-images
#     version: "3"
#     digest: sha256:...   # of exactly this version
#     licence: CC-BY-4.0
#     sensitivity: public  # public, internal, confidential, personal, special-category
#     owner: data team
#     role: training       # training, validation, test, calibration
#     url: ""
"""
_CODE = """
# What trained it.
code:
  repository: {repository}
  commit: {commit}
  dirty: {dirty}             # whether files differed from that commit
  entry_point: ""          # the script or command that was run

# Hyperparameters and the like, in any form.
configuration: {{}}
#   epochs: 20
#   learning_rate: 0.003

"""
_FRAMEWORK_HEAD = """\
# What the training ran with, as installed here. Remove what took no part.
"""
_TAIL = """
# What was measured: name, value, data set, and the part of it (a class, a group).
metrics: []
#   - {{name: accuracy, value: 0.993, dataset: my-images, slice: ""}}

# Models that it was made from: fine-tuned, distilled, quantised, pruned, merged or other.
parents: []
#   - {{name: base-model, digest: sha256:..., relation: fine-tuned}}

# Digest of the preprocessing that made the training inputs: mlopsc.load_preprocess(...).digest.
# An import with other preprocessing is refused.
preprocessing: {preprocessing}
"""
