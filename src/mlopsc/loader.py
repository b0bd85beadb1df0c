"""Loads a package's shared library into this process and calls it with NumPy arrays."""

from __future__ import annotations

import ctypes
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc.abi import RUN_ERRORS, Descriptor, read_descriptor
from mlopsc.dtypes import from_file
from mlopsc.errors import BrokenPackageError, InputError, MissingToolError
from mlopsc.host import cpu_flags
from mlopsc.labels import to_places, to_strings
from mlopsc.package_reader import LoadedPackage, read_package
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.target import Target
from mlopsc.trust.places import may_be_revoked

Array = np.ndarray[Any, Any]
_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
MAX_THREADS = 64  # MLOPSC_MAX_THREADS
_SYSTEMS = {"linux": "Linux", "macos": "Darwin"}
_MACHINES = {"x86_64": {"x86_64", "amd64"}, "aarch64": {"aarch64", "arm64"}, "riscv64": {"riscv64"}}


def load(
    package: str | Path,
    threads: int | None = None,
    *,
    key: str | Path | None = None,
    revocations: Sequence[str | Path] = (),
) -> Model:
    """Load a package built for this machine.

    Args:
        package: Its folder.
        threads: Number of threads a call may use, 1 to 64; by default what the environment
            variable ``MLOPSC_NUM_THREADS`` says, else the processors this process may run on. It
            holds for every model that this process loads from the same library; results do not
            depend on it.
        key: Public key that must have signed the package; without, nobody's signature is asked for.
        revocations: Revocation lists, beside the user's own and those of ``MLOPSC_REVOCATIONS``.

    Returns:
        A callable: arrays in by input name, a dict of arrays out by output name.

    Raises:
        BrokenPackageError: The package is damaged or its library cannot be loaded.
        InputError: ``threads`` is not in its range, or more than one and the package was built
            without threads.
        MissingToolError: The package was built for another kind of machine.
        RevokedError: The package, or something it was made of, is revoked.
        SignatureError: The package is not signed by ``key``.
    """
    path = Path(package)
    lists = tuple(map(Path, revocations))
    if key is not None:
        from mlopsc.trust.policy import TrustOptions, verify

        found = verify(path, TrustOptions(keys=(Path(key),), revocations=lists))
        return Model(found.artefact.require_package(), threads)
    loaded = read_package(path)
    if may_be_revoked(lists):
        from mlopsc.trust.policy import refuse_revoked

        refuse_revoked(loaded, lists)
    return Model(loaded, threads)


def check_runs_here(target: Target) -> None:
    """Check that this process can execute code of ``target``.

    Raises:
        MissingToolError: It cannot; the message names what is missing.
    """
    system = _SYSTEMS.get(target.toolchain.system)
    machine = target.toolchain.target.split("-")[0]
    here = platform.machine().lower()
    if system != platform.system() or here not in _MACHINES.get(machine, set()):
        raise MissingToolError(
            f"target '{target.name}' ({target.toolchain.target}) cannot run in this process "
            f"({platform.system()} on {here})",
            hint="use 'mlopsc run' or 'mlopsc conform', which emulate other machines",
        )
    missing = sorted(set(target.hardware.cpu_flags) - cpu_flags())
    if missing:
        raise MissingToolError(
            f"target '{target.name}' needs processor features that this machine lacks: "
            f"{', '.join(missing)}",
            hint="run it on a machine that has them",
        )


class Model:
    """A loaded model. Threads may call one model at the same time; each gets its own arena."""

    def __init__(self, package: LoadedPackage, threads: int | None = None) -> None:
        """Load the library of ``package``.

        Raises:
            BrokenPackageError, InputError, MissingToolError: As ``load``.
        """
        check_threads(threads, package.info.target)
        check_runs_here(package.info.target)
        if package.info.shared_library is None:
            raise BrokenPackageError(
                f"'{package.path}' has no shared library, which target "
                f"'{package.info.target.name}' should have",
                hint="build the package again with 'mlopsc build'",
            )
        self._package = package
        path = package.path / package.info.shared_library
        try:
            self._library = _open_library(path.resolve())
            get = self._library.mlopsc_model_get
        except (OSError, AttributeError) as error:
            raise BrokenPackageError(f"cannot load '{path}': {error}") from error
        get.restype = ctypes.c_void_p
        self.descriptor: Descriptor = read_descriptor(
            ctypes.string_at, get(), pointer_bits=package.info.target.hardware.pointer_bits
        )
        check_descriptor(self.descriptor, package)
        self._run = _RUN(self.descriptor.run)
        self._idle: list[_Frame] = []
        self._expected = [(s.name, np.dtype(s.dtype), s.shape) for s in self.inputs]
        self._labelled = any(s.labels for s in self.outputs)
        self._made = [(s.name, s.shape, np.dtype(s.dtype)) for s in self.outputs]
        # Not there if no kernel is worth a second thread.
        if threads is not None and hasattr(self._library, "mlopsc_set_threads"):
            self._library.mlopsc_set_threads(threads)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, types and shapes of the raw inputs, and the labels of those that are strings."""
        return self._package.info.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, types and shapes of the outputs, and the labels of those that are strings."""
        return self._package.info.outputs

    def __call__(
        self, inputs: Mapping[str, Array] | None = None, /, **named: Array
    ) -> dict[str, Array]:
        """Run once.

        Args:
            inputs: Arrays by input name.
            named: The same as keywords, where names allow it.

        Returns:
            New arrays by output name; of ``str`` (dtype object) where an output has labels.

        Raises:
            InputError: An array is missing, unknown, or has another type or shape.
        """
        arrays: Mapping[str, Array] = inputs or {}
        if named:
            arrays = {**arrays, **named}
        if not self._fits(arrays):
            arrays = check_inputs(arrays, self.inputs)
        try:
            frame = self._idle.pop()  # nobody else has it until it is back
        except IndexError:
            frame = _Frame(self.descriptor)
        ins, outs = frame.inputs, frame.outputs
        made = {name: np.empty(shape, dtype) for name, shape, dtype in self._made}
        if self.descriptor.arena_io is not None:
            self.call_into(arrays, made, frame.arena)
        else:
            for index, (name, _, _) in enumerate(self._expected):
                ins[index] = _address(arrays[name])
            for index, array in enumerate(made.values()):
                outs[index] = _address(array)
            self._check(self._run(*frame.arguments))
        self._idle.append(frame)
        return to_strings(made, self.outputs) if self._labelled else made

    def _fits(self, arrays: Mapping[str, Array]) -> bool:
        """Whether the library can read ``arrays`` as they are: the common case, decided fast."""
        if len(arrays) != len(self._expected):
            return False
        for name, dtype, shape in self._expected:
            array = arrays.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                return False
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                return False
        return True

    def call_into(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], arena: Array
    ) -> None:
        """Run once on checked, contiguous arrays, with scratch memory of the caller.

        Where inputs and outputs lie in that memory, they are copied there and from there.
        """
        ins, outs = _pointers(len(self.inputs)), _pointers(len(self.outputs))
        places = self.descriptor.arena_io
        for index, spec in enumerate(self.inputs):
            array = inputs[spec.name]
            if places is not None:
                part = arena[places.inputs[index] : places.inputs[index] + spec.nbytes]
                part[:] = array.reshape(-1).view(np.uint8)
                array = part
            ins[index] = _address(array)
        results = [outputs[spec.name] for spec in self.outputs]
        parts = (
            results
            if places is None
            else [
                arena[start : start + spec.nbytes]
                for start, spec in zip(places.outputs, self.outputs, strict=True)
            ]
        )
        for index, array in enumerate(parts):
            outs[index] = _address(array)
        self._check(self._run(ins, outs, _address(arena)))
        if places is not None:
            for array, part in zip(results, parts, strict=True):
                array.reshape(-1).view(np.uint8)[:] = part

    def _check(self, status: int) -> None:
        if status != 0:
            reason = RUN_ERRORS.get(status, f"status {status}")
            raise BrokenPackageError(f"model '{self.descriptor.name}' refused to run: {reason}")

    def new_arena(self) -> Array:
        """Return scratch memory for one call at a time."""
        return _new_arena(self.descriptor)


class _Frame:
    """What one call at a time needs, and the next one too.

    Attributes:
        inputs: Pointers to the inputs.
        outputs: Pointers to the outputs.
        arena: Scratch memory.
        arguments: Of the library's function: where the pointers and the scratch memory lie.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self.inputs = _pointers(len(descriptor.inputs))
        self.outputs = _pointers(len(descriptor.outputs))
        self.arena = _new_arena(descriptor)
        self.arguments = (
            ctypes.addressof(self.inputs),
            ctypes.addressof(self.outputs),
            _address(self.arena),
        )


def _pointers(number: int) -> Any:
    return (ctypes.c_void_p * max(number, 1))()


def _new_arena(descriptor: Descriptor) -> Array:
    size, align = max(descriptor.arena_bytes, 1), descriptor.arena_align
    block = np.empty(size + align, np.uint8)
    start = -block.ctypes.data % align
    return block[start : start + size]


def _address(array: Array) -> int:
    """Return where the elements of an array lie."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, without elements or of a small type: slower
        return array.ctypes.data


def check_threads(threads: int | None, target: Target) -> None:
    """Check a number of threads that a user asks for.

    Raises:
        InputError: It is out of range, or packages of ``target`` have no threads.
    """
    if threads is None or threads == 1:
        return
    if not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise InputError(
            f"threads={threads!r}; expected a number from 1 to {MAX_THREADS}",
            hint="leave it out to use every processor",
        )
    if not target.toolchain.threads:
        raise InputError(
            f"threads={threads}: packages of target '{target.name}' compute on the calling thread",
            hint="leave it out, or build for a target whose [toolchain] says 'threads = true'",
        )


def _open_library(path: Path) -> ctypes.CDLL:
    """Load a library under a name of its own: loaders take a path they know for the old file."""
    with tempfile.TemporaryDirectory(prefix="mlopsc-load-") as folder:
        link = Path(folder) / path.name
        link.symlink_to(path)
        return ctypes.CDLL(str(link))


def check_inputs(arrays: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Return ``arrays`` contiguous and in the order of ``specs``; strings become places.

    Raises:
        InputError: An array is missing, unknown, or has another type or shape.
    """
    unknown = sorted(set(arrays) - {s.name for s in specs})
    missing = [s.name for s in specs if s.name not in arrays]
    if unknown or missing:
        raise InputError(
            f"got inputs {sorted(arrays)}; expected {[s.name for s in specs]}",
            hint="name every input, and no other",
        )
    checked = {}
    for spec in specs:
        array = np.asarray(arrays[spec.name])
        if spec.labels is not None and array.dtype.kind in "OSU":
            array = to_places(array, spec.labels)
        array = from_file(array, spec.dtype)
        if array.dtype.name != spec.dtype or array.shape != spec.shape:
            raise InputError(
                f"input '{spec.name}' is {array.dtype.name}{list(array.shape)}; expected "
                f"{spec.dtype}{list(spec.shape)}",
                hint=f"convert it, for example with .astype('{spec.dtype}').reshape({spec.shape})",
            )
        # In this machine's byte order, dense and aligned, as a library reads it.
        native = np.require(array, np.dtype(spec.dtype), ["C_CONTIGUOUS", "ALIGNED"])
        checked[spec.name] = native.reshape(spec.shape)
    return checked


def check_descriptor(descriptor: Descriptor, package: LoadedPackage) -> None:
    """Check that a library is the one its ``model.json`` describes; it knows no labels.

    Raises:
        BrokenPackageError: They contradict each other.
    """
    info = package.info
    inputs, outputs = (
        tuple(spec.model_copy(update={"labels": None}) for spec in specs)
        for specs in (info.inputs, info.outputs)
    )
    for what, found, expected in (
        ("name", descriptor.name, info.name),
        ("target", descriptor.target, info.target.name),
        ("bundle", descriptor.bundle, info.bundle),
        ("inputs", descriptor.inputs, inputs),
        ("outputs", descriptor.outputs, outputs),
        ("arena size", descriptor.arena_bytes, info.memory.arena),
        ("arena alignment", descriptor.arena_align, info.memory.arena_align),
        ("places in the arena", descriptor.arena_io, info.arena_io),
    ):
        if found != expected:
            raise BrokenPackageError(
                f"the library in '{package.path}' says {what} {found}; model.json says {expected}"
            )
