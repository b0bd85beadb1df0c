"""Frontend *pmml*: models of R, SPSS, SAS, KNIME and Java as PMML documents.

No framework: a converter of our own makes the graphs, and an evaluator that computes one sample at
a time in double precision is what they are compared with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlopsc._version import __version__
from mlopsc.errors import MlopscError, SourceError
from mlopsc.frontends.base import Array, Exported, LoadOptions, Original, RawInput
from mlopsc.frontends.content import Content
from mlopsc.frontends.pmml.convert import Converted, Converter, check_document
from mlopsc.frontends.pmml.draw import Drawer
from mlopsc.frontends.pmml.element import Element, read_document
from mlopsc.frontends.pmml.evaluate import Evaluator
from mlopsc.frontends.pmml.fields import model_of
from mlopsc.schema.export import MODEL_FILE, PREPROCESS_FILE
from mlopsc.schema.lineage import Framework

TITLE = "PMML"
EXTRA = "pmml"
MODULES = ("defusedxml",)
_ROOT = re.compile(r"<(?:\w{1,40}:)?PMML(?=[\s>])[^>]{0,2000}")
_VERSION = re.compile(r"\sversion=[\"']([\d.]{1,8})")
_MODEL = re.compile(r"<(?:\w{1,40}:)?(\w{1,40}Model|Scorecard|NeuralNetwork)[\s>]")
# What may stand before the root: how it begins, how it ends.
_BEFORE = (("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">"))


def recognise(content: Content) -> str | None:
    """Return what it is: XML whose root is ``PMML``."""
    root = _ROOT.match(_without_prolog(_text(content)))
    if root is None:
        return None
    model, given = _MODEL.search(root.string, root.end()), _VERSION.search(root[0])
    kind = f", {model[1]}" if model else ""
    return f"PMML document{f' of version {given[1]}' if given else ''}{kind}"


def _without_prolog(text: str) -> str:
    """Return a document from its root on."""
    text = text.lstrip()
    while found := next(((b, e) for b, e in _BEFORE if text.startswith(b)), None):
        begin, end = found
        if begin == "<!DOCTYPE" and "[" in text.partition(">")[0]:
            end = "]>"
        text = text.partition(end)[2].lstrip()
    return text


def _text(content: Content) -> str:
    if content.head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.head[: len(content.head) // 2 * 2].decode("utf-16", errors="ignore")
    return content.text or (
        content.head.decode("latin-1") if content.head.lstrip().startswith(b"<") else ""
    )


def load(path: Path, options: LoadOptions) -> Original:
    """Read a document.

    Raises:
        SourceError: It is malformed.
        ConversionError: It holds a model of a kind that is not converted.
    """
    document = read_document(path)
    check_document(document)
    try:
        model_of(document)
        return Document(document)
    except RecursionError as error:
        raise SourceError(f"'{path}' is nested too deeply") from error


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return None: documents are files."""
    del model, example, options
    return None


class Document(Original):
    """A document whose model can be evaluated."""

    def __init__(self, document: Element) -> None:
        """Take the root of a document."""
        self._document = document
        self.version = f"mlopsc {__version__} (its own evaluator of PMML)"
        self._read_header()
        self._converted: Converted | None = None
        self._drawer: Drawer | None = None

    def _read_header(self) -> None:
        header = self._document.one("Header")
        about: dict[str, Any] = {"pmml": self._document.get("version")}
        if header is not None:
            application, stamp = header.one("Application"), header.one("Timestamp")
            if application is not None and application.get("name"):
                name, number = application.get("name"), application.get("version")
                self.written_by = f"{name} {number}".strip()
                self.frameworks = (Framework(name=name, version=number or "unknown"),)
            about |= {k: header.get(k) for k in ("description", "copyright") if header.get(k)}
            if stamp is not None and stamp.text.strip():
                about["timestamp"] = stamp.text.strip()
        model = model_of(self._document)
        names = ("modelName", "algorithmName", "functionName")
        self.configuration = {**about, **{n: model.get(n) for n in names if model.get(n)}}

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        made = Converter(self._document, split=options.split).convert()
        self._converted = made
        self._output = made.model.graph.output[0].name
        self._write(made.model, folder / MODEL_FILE)
        before = None
        if made.preprocess is not None:
            before = folder / PREPROCESS_FILE
            self._write(made.preprocess, before)
        return Exported(
            folder / MODEL_FILE,
            before,
            preprocessing=made.phrases,
            notes=tuple(self._notes()),
            converter=f"mlopsc {__version__}",
        )

    @staticmethod
    def _write(model: onnx.ModelProto, path: Path) -> None:
        path.write_bytes(model.SerializeToString())

    def _notes(self) -> list[str]:
        """Return what was left out."""
        model, found = model_of(self._document), []
        outputs = model.one("Output")
        left = [
            o.get("name")
            for o in (outputs.all("OutputField") if outputs else [])
            if o.get("feature", "predictedValue") not in ("predictedValue", "probability")
        ]
        if left:
            found.append(f"outputs that were left out: {', '.join(left)}")
        if model.tag == "Scorecard" and model.get("useReasonCodes", "true") == "true":
            found.append("reason codes are not computed")
        if model.one("ModelVerification") is not None:
            found.append("the verification records of the document were not used")
        return found

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        if self._converted is None:
            raise AssertionError("run comes after export")
        evaluator = Evaluator(self._document)
        fields, classes = self._converted.inputs, self._converted.classes
        answers = []
        for row in range(len(next(iter(inputs.values())))):
            given = {}
            for name, array in inputs.items():
                value = array.reshape(len(array), -1)[row, 0]
                text = fields[name].kind == "text"
                given[fields[name].name] = str(value) if text else float(value)
            try:
                answers.append(evaluator.predict(given))
            except MlopscError:
                raise
            except Exception as error:  # whatever a malformed document leads to
                raise SourceError(
                    f"the PMML document cannot be evaluated: {type(error).__name__}: {error}"
                ) from error
        if not classes:
            values = [np.nan if a.value is None else float(a.value) for a in answers]
            return {self._output: np.array(values).reshape(-1, 1)}
        labels = [classes[0] if a.value is None else str(a.value) for a in answers]
        integers = self._converted.model.graph.output[0].type.tensor_type.elem_type == 7
        found = np.array([int(i) for i in labels]) if integers else np.array(labels)
        shares = np.array([[a.shares.get(c, 0.0) for c in classes] for a in answers])
        return {self._output: found.reshape(-1, 1), "probabilities": shares}

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """See ``Original.draw``: around the numbers that the document compares fields with."""
        del last
        if self._converted is None:
            raise AssertionError("inputs are drawn after export")
        if self._drawer is None:
            self._drawer = Drawer(self._document, self._converted)
        return {i.name: self._drawer.draw(rng, i) for i in inputs}
