"""Every error a user can meet: one class, one exit code and one clear message each.

Used by all stages; depends on nothing. A message says what failed, the value, what was expected,
and what to do next. The command line catches ``MlopscError`` once, prints it and exits with the
class's ``exit_code``; the table in ``docs/errors.md`` is generated from this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class MlopscError(Exception):
    """Base of all expected failures.

    Attributes:
        exit_code: The process exit status of this kind of failure; unique per class.
        hint: What the user can do next.
        node: Name of the model's node it is about, or "".
        op: Operator of that node, or "".
        also: Further failures that were found at the same time.
    """

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = "docs/errors.md explains each kind of failure"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store the message and the hint; without one, the hint of the class."""
        super().__init__(message)
        self.hint = hint or self.default_hint
        self.node = ""
        self.op = ""
        self.also: tuple[MlopscError, ...] = ()

    @property
    def message(self) -> str:
        """The message without the hint."""
        return str(self.args[0])


def raise_first(problems: Iterable[MlopscError]) -> None:
    """Raise the first of ``problems``, if there is one, with the others in ``also``."""
    found = list(problems)
    if found:
        found[0].also = tuple(found[1:])
        raise found[0]


class SourceError(MlopscError):
    """The source file is missing, truncated, or not valid: a model, steps or a Python function."""

    exit_code = 10
    default_hint = "check that the file is complete and export it again"


class UnsupportedOpError(MlopscError):
    """The model holds an operator, or a use of one, outside the core op set.

    Attributes:
        run_time_inputs: Tensors that would have to be constants.
    """

    exit_code = 11
    default_hint = "'docs/core-ops.md' lists what can be compiled"

    def __init__(
        self, message: str, *, hint: str = "", run_time_inputs: tuple[str, ...] = ()
    ) -> None:
        """Store the message, the hint and what should be constant."""
        super().__init__(message, hint=hint)
        self.run_time_inputs = run_time_inputs


class OpenShapeError(MlopscError):
    """A dimension is still symbolic after binding, or a binding does not fit."""

    exit_code = 12
    default_hint = "choose sizes with --bind NAME=N"


class InputError(MlopscError):
    """Arrays given by the user do not fit the signature of the model."""

    exit_code = 13
    default_hint = "'mlopsc inspect' prints the names, types and shapes that are expected"


class UnknownTargetError(MlopscError):
    """No target of that name exists."""

    exit_code = 14
    default_hint = "'mlopsc targets' lists all; a path ending in .toml names your own"


class TargetDefinitionError(MlopscError):
    """A target file is not valid."""

    exit_code = 15
    default_hint = "docs/targets.md describes every field"


class LimitError(MlopscError):
    """The model does not fit the limits of the target."""

    exit_code = 16
    default_hint = "choose a larger target or a smaller model"


class MissingToolError(MlopscError):
    """A program, library or processor feature that this step needs is not there."""

    exit_code = 17
    default_hint = "'mlopsc targets' lists the runners of each target; install or choose one"


class OutputError(MlopscError):
    """The output exists already or cannot be written."""

    exit_code = 18
    default_hint = "choose another path"


class CompilerError(MlopscError):
    """The compiler, or a tool it runs, failed or crashed."""

    exit_code = 19
    default_hint = "try '--schedule none' or another '--generator', and report the model"


class MismatchError(MlopscError):
    """The package computes something else than the reference runtime."""

    exit_code = 20
    default_hint = "conformance.json in the package has the details"


class BrokenPackageError(MlopscError):
    """A package is damaged, incomplete, or fails when it is run."""

    exit_code = 21
    default_hint = "build the package again with 'mlopsc build'"


class BrokenBundleError(MlopscError):
    """A bundle is damaged or incomplete."""

    exit_code = 22
    default_hint = "make the bundle again with 'mlopsc import'"


class GateError(MlopscError):
    """A built library needs symbols or an ABI that a package must not need."""

    exit_code = 23
    default_hint = "report the model and the target"


class FormatVersionError(MlopscError):
    """An artefact has a format version that is newer than any this program knows."""

    exit_code = 24
    default_hint = "upgrade mlopsc: pip install --upgrade mlopsc"


class LineageError(MlopscError):
    """The description of a model's history is not valid."""

    exit_code = 25
    default_hint = "'mlopsc init' writes a working example; docs/lineage.md explains every field"


class LockstepError(MlopscError):
    """The preprocessing that is shipped is not the one that trained the model."""

    exit_code = 26
    default_hint = "ship the preprocessing that trained the model, or train it again"


class SignatureError(MlopscError):
    """An artefact is unsigned, was altered after it was signed, or is signed by somebody else."""

    exit_code = 27
    default_hint = "get the artefact again from its owner; do not use this one"


class RevokedError(MlopscError):
    """An artefact, or something that it was made of or signed with, has been revoked."""

    exit_code = 28
    default_hint = "'mlopsc affected' lists what else is affected; use a version made without it"


class KeyFileError(MlopscError):
    """A key, certificate or password cannot be used."""

    exit_code = 29
    default_hint = "'mlopsc keygen -o KEY' makes a pair of keys"


class LogError(MlopscError):
    """The log or a revocation list cannot be read, or has been tampered with."""

    exit_code = 30
    default_hint = "restore the file from a copy; 'mlopsc log --verify' checks one"


class ReproductionError(MlopscError):
    """A package that was built again is not the same, byte for byte."""

    exit_code = 31
    default_hint = "the message names the first file that differs"


class DataError(MlopscError):
    """A data set cannot be fingerprinted as it is, or a saved fingerprint is damaged."""

    exit_code = 32
    default_hint = "docs/data.md says what a data set may hold"


class DataChangedError(MlopscError):
    """Two versions of a data set differ, and ``mlopsc data diff`` was asked to fail then."""

    exit_code = 33
    default_hint = "the lines on standard output say which files differ"


class QuantizationError(MlopscError):
    """A model cannot be quantised as asked, or the calibration data is of no use."""

    exit_code = 34
    default_hint = "docs/quantize.md says what can be quantised, and with which data"


class DivergenceError(MlopscError):
    """The converted model computes something else than the original does in its framework."""

    exit_code = 35
    default_hint = "report the model; '--accept-divergence REASON' imports it and records why"


class UnsafeSourceError(MlopscError):
    """A model file holds code, or is of a kind that runs code when it is loaded."""

    exit_code = 36
    default_hint = "docs/frontends.md says how to export each framework's models without code"


class ConversionError(MlopscError):
    """A framework's converter to ONNX fails on a model."""

    exit_code = 37
    default_hint = "export the model to ONNX with the framework's own tools and import that"
