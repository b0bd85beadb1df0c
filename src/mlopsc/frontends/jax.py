"""Frontend *jax*: functions of JAX and models of Flax that are in memory; exported programs.

A function in memory has no type of its own, so ``wrap`` is asked last and takes what can be called
where JAX has been imported and an example is given. The way to ONNX is jax2onnx.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.drawing import draw_array
from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.base import (
    Array,
    CannotRun,
    Exported,
    LoadOptions,
    Original,
    RawInput,
    type_names,
    versions_of,
)
from mlopsc.frontends.content import Content
from mlopsc.frontends.libraries import quietly, words
from mlopsc.schema.export import MODEL_FILE
from mlopsc.schema.lineage import Framework

TITLE = "JAX"
EXTRA = "jax"
MODULES = ("jax", "jax2onnx")

_OPSET: Final = 21
_POOLS: Final = ("avg_pool", "max_pool", "min_pool")
_FROM_PYTHON: Final = (
    "give the function itself, in Python: mlopsc.import_model(function, 'model.mlb', "
    "example=jax.ShapeDtypeStruct((1, ...), 'float32'))"
)


def recognise(content: Content) -> str | None:
    """Return None: programs of JAX in files are known, and refused.

    Raises:
        SourceError: It is StableHLO or what ``jax.export`` serialises.
    """
    what = _program_kind(content)
    if what is not None:
        raise SourceError(
            f"'{content.path}' is {what}; no kept converter takes it to ONNX; expected the JAX "
            "function that it was made of",
            hint=_FROM_PYTHON,
        )
    return None


def _program_kind(content: Content) -> str | None:
    head = content.head
    if head.startswith(b"ML\xefR"):
        return "MLIR bytecode (StableHLO)"
    if b"ML\xefR" in head and (b"StableHLO" in head or b"MLIR" in head):
        return "a serialised jax.export program (StableHLO)"
    if re.search(r"^\s*module\b[^{]*\{", content.text[:4096], re.M) and re.search(
        r"\b(stablehlo|mhlo|vhlo|func)\.\w+", content.text
    ):
        return "MLIR text (StableHLO)"
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Not called: no file is recognised."""
    raise NotImplementedError


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a function or a Flax model that is in memory.

    Args:
        model: A function, jitted or not; an ``nnx.Module``; a ``linen.Module`` that is bound to
            its variables.
        example: Its inputs: an array or ``jax.ShapeDtypeStruct``, a tuple of them, or a dict of
            them by the names of arguments. Arguments may be trees of arrays.
        options: Not used.

    Raises:
        SourceError: The example is missing, or the model cannot be called.
    """
    del options
    if "jax" not in sys.modules:
        return None
    kinds = type_names(model)
    flax = next((k for k in kinds if re.match(r"flax\.(nnx|linen)\..*\bModule$", k)), None)
    if example is None:
        if flax is not None or "Jit" in type(model).__name__ or "Pjit" in type(model).__name__:
            raise SourceError(
                f"a {type(model).__name__} does not know the sizes of its inputs; expected example "
                "inputs",
                hint="example=jax.ShapeDtypeStruct((1, ...), 'float32'), or a tuple or a dict of "
                "them for several inputs",
            )
        return None
    if "jax._src.export._export.Exported" in kinds:
        raise SourceError(
            "a jax.export.Exported holds StableHLO, which no kept converter takes to ONNX; "
            "expected the function that was exported",
            hint=_FROM_PYTHON,
        )
    if not callable(model):
        return None
    if flax is not None and "linen" in flax and getattr(model, "scope", None) is None:
        raise SourceError(
            f"{type(model).__name__} is a linen.Module without its variables; expected one that is "
            "bound to them",
            hint="mlopsc.import_model(model.bind(variables), ...), with variables={'params': ...}",
        )
    return Function(model, example, uses_flax=flax is not None)


class Function(Original):
    """A function of JAX."""

    def __init__(self, function: Callable[..., Any], example: object, *, uses_flax: bool) -> None:
        """Take a function and its example inputs, by place or by name."""
        import jax

        self.version = versions_of("jax", "flax") if uses_flax else versions_of("jax")
        names = ("jax", "flax") if uses_flax else ("jax",)
        self.frameworks = tuple(
            Framework(name=name, version=versions_of(name).partition(" ")[2]) for name in names
        )
        self._function = function
        self._name = getattr(function, "__name__", type(function).__name__)
        if isinstance(example, Mapping):
            self._names: list[str] = [str(key) for key in example]
            self._by_name, trees = True, list(example.values())
        else:
            trees = list(example) if isinstance(example, tuple | list) else [example]
            self._names = _argument_names(function, len(trees))
            self._by_name = False
        paths, self._tree = jax.tree_util.tree_flatten_with_path(trees)
        self._leaves = [leaf for _, leaf in paths]
        self._inputs = _unique(
            [_join([self._names[path[0].idx], *map(_key, path[1:])]) for path, _ in paths]
        )
        for name, leaf in zip(self._inputs, self._leaves, strict=True):
            if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
                raise SourceError(
                    f"the example of input '{name}' is a {type(leaf).__name__}; expected an array "
                    "or a jax.ShapeDtypeStruct",
                    hint="bind what is no array: functools.partial(function, option=value)",
                )

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        import jax
        from jax2onnx import to_onnx

        del options
        converter = versions_of("jax2onnx")
        inputs = [
            jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))
            for leaf in self._leaves
        ]
        try:
            with quietly():
                shapes = jax.eval_shape(self._flat, *inputs)
        except Exception as error:
            raise SourceError(
                f"{self._name} cannot be called with the example: {words(error)}",
                hint="example=... takes a tuple of the arguments, or a dict of them by name",
            ) from error
        paths, _ = jax.tree_util.tree_flatten_with_path(shapes)
        self._outputs = _unique(
            [_join(_output_path([_key(k) for k in path])) for path, _ in paths], self._inputs
        )
        pools = _signatures_of_pools()

        def traced(*leaves: Any) -> list[Any]:
            with _pools_by_place(pools):
                return list(jax.tree_util.tree_leaves(self._flat(*leaves)))

        try:
            with quietly():
                proto = to_onnx(
                    traced,
                    inputs,
                    model_name=re.sub(r"\W", "_", self._name),
                    opset=_OPSET,
                    enable_double_precision=bool(jax.config.jax_enable_x64),
                    input_names=self._inputs,
                    output_names=self._outputs,
                )
        except Exception as error:
            raise ConversionError(
                f"{converter} fails on {self._name}: {words(error)}",
                hint="write the function with operations that jax2onnx knows; its page "
                "https://github.com/enpasos/jax2onnx lists them",
            ) from error
        _forget_shapes(proto.graph)
        (folder / MODEL_FILE).write_bytes(proto.SerializeToString())
        return Exported(folder / MODEL_FILE, converter=converter)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        import jax

        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise CannotRun(f"the graph lacks inputs of the function: {', '.join(missing)}")
        leaves = [
            jax.numpy.asarray(inputs[name], leaf.dtype)
            for name, leaf in zip(self._inputs, self._leaves, strict=True)
        ]
        try:
            with quietly():
                answers = jax.tree_util.tree_leaves(self._flat(*leaves))
        except Exception as error:  # whatever the function raises
            raise CannotRun(f"{self.version} cannot run it: {words(error)}") from error
        return {
            name: np.asarray(_widened(answer))
            for name, answer in zip(self._outputs, answers, strict=True)
        }

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """Draw integers from the range of an example that has values: they may be places."""
        examples: dict[str, Any] = dict(zip(self._inputs, self._leaves, strict=True))
        drawn = {}
        for spec in inputs:
            kind = np.dtype(spec.dtype)
            leaf: Any = examples.get(spec.name)
            if kind.kind in "iu" and kind.itemsize > 1 and hasattr(leaf, "max") and leaf.size:
                low, high = int(leaf.min()), int(leaf.max())
                drawn[spec.name] = rng.integers(low, high, spec.shape, endpoint=True).astype(kind)
            else:
                drawn[spec.name] = draw_array(rng, spec.dtype, spec.shape, last=last)
        return drawn

    def _flat(self, *leaves: Any) -> Any:
        """Call the function with its arguments as a flat list of arrays."""
        import jax

        trees = jax.tree_util.tree_unflatten(self._tree, leaves)
        if self._by_name:
            return self._function(**dict(zip(self._names, trees, strict=True)))
        return self._function(*trees)


def _signatures_of_pools() -> dict[str, inspect.Signature]:
    """Return the signatures of flax.linen's pools, if it has been imported."""
    linen = sys.modules.get("flax.linen")
    if linen is None:
        return {}
    return {n: inspect.signature(getattr(linen, n)) for n in _POOLS if hasattr(linen, n)}


@contextlib.contextmanager
def _pools_by_place(signatures: Mapping[str, inspect.Signature]) -> Iterator[None]:
    """Let flax.linen's pools take arguments by place, too.

    While jax2onnx traces, functions of its own stand for them, and they (in 0.17) take all but the
    first by name alone.
    """
    linen = sys.modules.get("flax.linen")
    given = {name: getattr(linen, name) for name in signatures}

    def by_place(pool: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            first, *others = signature.bind(*args, **kwargs).arguments.items()
            return pool(first[1], **dict(others))

        return called

    for name, signature in signatures.items():
        setattr(linen, name, by_place(given[name], signature))
    try:
        yield
    finally:
        for name, pool in given.items():
            setattr(linen, name, pool)


def _forget_shapes(graph: Any) -> None:
    """Take out what jax2onnx says of the tensors inside of a graph; it is inferred at import.

    Version 0.17 gives some the sizes of JAX's layout, and bodies of loops symbols of their own.
    """
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_shapes(attribute.g)
                for value in attribute.g.output:
                    value.type.tensor_type.ClearField("shape")


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of the first ``count`` arguments that are given by place."""
    try:
        found = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        found = []
    if len(found) < count:
        found = ["x"] if count == 1 else [f"x{number}" for number in range(count)]
    return found[:count]


def _key(key: Any) -> str:
    """Return a step of a path in a tree: the key, the attribute or the place."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _output_path(keys: list[str]) -> list[str]:
    return ["output", *keys] if not keys or keys[0].isdigit() else keys


def _join(keys: Sequence[str]) -> str:
    return re.sub(r"\W", "_", "_".join(keys))


def _unique(names: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """Return the names, those that are taken already made different."""
    taken = set(others)
    found = []
    for name in names:
        while name in taken:
            name += "_out" if others else "_"
        taken.add(name)
        found.append(name)
    return found


def _widened(answer: Any) -> Any:
    """Return 16-bit floats as float32, which NumPy knows."""
    import jax

    narrow = jax.numpy.issubdtype(answer.dtype, jax.numpy.floating) and answer.dtype.itemsize < 4
    return answer.astype("float32") if narrow else answer
