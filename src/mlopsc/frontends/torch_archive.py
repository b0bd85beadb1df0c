"""What a ``.pt2`` archive holds, read without PyTorch; anything that could run code is refused.

``torch.export.load`` unpickles what an archive says is pickled, evaluates the expressions of its
symbolic sizes with SymPy (that is, with Python), compiles its guards, and generates Python from the
names in its graph. So the program is read here first: ``clean`` gives a copy in which each string
is a plain name or was taken apart, and guards and debugging metadata are gone.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mlopsc.errors import SourceError, UnsafeSourceError

MODEL: Final = "models/model.json"
_SAMPLE: Final = "data/sample_inputs/model.pt"
_KEPT: Final = ("archive_format", "archive_version", "byteorder", ".data/version", "version")
_PAYLOADS: Final = ("data/weights/", "data/constants/")
_EXTRA: Final = "extra/"
_EXTRA_BYTES: Final = 1 << 16
_JSON_BYTES: Final = 1 << 28
_AGAIN: Final = (
    "save it again with torch.export.save(torch.export.export(model.eval(), example), 'model.pt2')"
)
_PLAIN: Final = re.compile(r"[\w.+\-/:]*", re.ASCII)
_TARGET: Final = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.(_?sym_\w+)|math\.[a-z]\w*"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|getitem|eq|ne|lt|le|gt|ge"
    r"|and_|or_|not_|xor|lshift|rshift|index)",
    re.ASCII,
)
_CUSTOM: Final = re.compile(r"torch\.ops\.(\w+\.\w+)(\.\w+)?", re.ASCII)
_FILES: Final = re.compile(r"torch\.ops\.aten\.from_file\b.*", re.ASCII)  # opens a path
_TREES: Final = (
    None,
    "builtins.tuple",
    "builtins.list",
    "builtins.dict",
    "collections.OrderedDict",
)
_SYMBOL: Final = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_FUNCTION: Final = re.compile(
    "Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Mod|Abs|floor|ceiling|Eq|Ne|Lt|Le|Gt|Ge"
    "|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|Xor"
    "|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift"
    "|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator"
    "|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_WORD: Final = re.compile(r"true|false|True|False|oo|int_oo|nan|[a-z]+[0-9]+")
_NODES: Final = (
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.keyword, ast.Load, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """What an archive says of itself.

    Attributes:
        version: Of the PyTorch that wrote it, or an empty string.
        extra: Small JSON objects and texts that the user has put in, by name.
        sample: The example inputs, a pickle of tensors, or nothing.
        program: The whole program, as far as it was kept.
    """

    version: str
    extra: Mapping[str, Any]
    sample: bytes
    program: Mapping[str, Any]


def clean(path: Path, target: Path, holds_tensors: Callable[[bytes], bool]) -> Archive:
    """Write a copy of the archive ``path`` to ``target`` that is safe to load.

    Args:
        path: A ``.pt2`` file.
        target: A path that is free.
        holds_tensors: Whether a pickle holds tensors and plain values alone.

    Raises:
        SourceError: It is damaged, or of a kind that cannot be read.
        UnsafeSourceError: It holds code, or what would run some.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Cleaner(path, archive, holds_tensors).write(target)
    except (SourceError, UnsafeSourceError):
        raise
    except (
        zipfile.BadZipFile, OSError, ValueError, LookupError, TypeError, AttributeError,
        RecursionError, NotImplementedError, EOFError, RuntimeError, struct.error,
    ) as error:  # fmt: skip
        raise SourceError(
            f"'{path}' is a damaged .pt2 archive: {type(error).__name__}: {str(error)[:200]}",
            hint=_AGAIN,
        ) from error


class _Cleaner:
    def __init__(
        self, path: Path, archive: zipfile.ZipFile, holds_tensors: Callable[[bytes], bool]
    ) -> None:
        self._path, self._archive, self._holds_tensors = path, archive, holds_tensors
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            root, _, name = info.filename.partition("/")
            self._members[name] = info
            if info.compress_type != zipfile.ZIP_STORED:
                raise SourceError(
                    f"'{path}': '{info.filename}' is compressed; expected an archive as "
                    "torch.export.save writes it",
                    hint=_AGAIN,
                )
            if not name or not _PLAIN.fullmatch(root) or ".." in PurePosixPath(name).parts:
                raise SourceError(f"'{path}': the archive has a member {info.filename!r}")

    def write(self, target: Path) -> Archive:
        names = self._members
        if MODEL not in names:
            self._refuse_other()
        if self._read("byteorder", default=b"little").strip() != b"little":
            raise SourceError(f"'{self._path}' is of a big-endian machine; expected little-endian")
        program = self._program()
        with zipfile.ZipFile(target, "w") as made:
            for name in (*_KEPT, *(n for n in names if n.startswith(_PAYLOADS))):
                if name in names:
                    data = self._read(name)
                    self._check_payload(name, data)
                    made.writestr(f"model/{name}", data)
            made.writestr(f"model/{MODEL}", json.dumps(program))
            made.writestr(f"model/{_SAMPLE}", b"")
        sample = self._read(_SAMPLE, default=b"")
        return Archive(
            version=str(program.get("torch_version", "")),
            extra=self._extra(),
            sample=sample if sample and self._holds_tensors(sample) else b"",
            program=program,
        )

    def _refuse_other(self) -> None:
        if any(name.startswith("data/aotinductor/") for name in self._members):
            raise UnsafeSourceError(
                f"'{self._path}' holds compiled code of AOTInductor; it was not loaded",
                hint=f"export the model instead: {_AGAIN}",
            )
        models = [PurePosixPath(n).stem for n in self._members if n.startswith("models/")]
        raise SourceError(
            f"'{self._path}' holds the programs {', '.join(models) or 'none'}; expected one that "
            "is called 'model'",
            hint=_AGAIN,
        )

    def _read(self, name: str, default: bytes | None = None) -> bytes:
        info = self._members.get(name)
        if info is None and default is not None:
            return default
        return self._archive.read(self._members[name])

    def _extra(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, info in self._members.items():
            if not name.startswith(_EXTRA) or info.file_size > _EXTRA_BYTES:
                continue
            try:
                text = self._archive.read(info).decode()
            except UnicodeDecodeError:
                continue
            try:
                found[name.removeprefix(_EXTRA)] = json.loads(text)
            except (ValueError, RecursionError):
                found[name.removeprefix(_EXTRA)] = text
        return found

    def _check_payload(self, name: str, data: bytes) -> None:
        """Refuse pickles of anything but tensors, and a table of payloads that names some."""
        if name.endswith("_config.json"):
            for key, entry in json.loads(data)["config"].items():
                kind = str(entry["path_name"]).rpartition("_")[0]
                if entry.get("use_pickle") or kind not in ("weight", "tensor"):
                    raise UnsafeSourceError(
                        f"'{self._path}': '{key}' is a pickle ({entry['path_name']}): loading it "
                        "would run whatever it says; it was not loaded",
                        hint="use plain tensors as parameters, buffers and constants, and "
                        f"{_AGAIN}",
                    )
                _Walk(self._path).check(entry)
        elif name.endswith(".pt") and not self._holds_tensors(data):
            raise UnsafeSourceError(
                f"'{self._path}': '{name}' is a pickle of more than tensors; it was not loaded",
                hint=_AGAIN,
            )

    def _program(self) -> dict[str, Any]:
        if self._members[MODEL].file_size > _JSON_BYTES:
            raise SourceError(
                f"'{self._path}': the program takes {self._members[MODEL].file_size} bytes; "
                f"expected at most {_JSON_BYTES}"
            )
        program: dict[str, Any] = json.loads(self._read(MODEL))
        program["guards_code"] = []
        program["graph_module"]["metadata"] = {}
        _Walk(self._path).check(program)
        return program


class _Walk:
    """Checks every string of a program, and takes out what nothing needs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, value: Any) -> None:
        """Check ``value``, a JSON value.

        Raises:
            SourceError, UnsafeSourceError: A string is not what a program needs.
        """
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if isinstance(value.get("target"), str) and "metadata" in value:
                    value["metadata"] = {}
                for key, item in value.items():
                    self._plain(key)
                    if not isinstance(item, str):
                        waiting.append(item)
                    else:
                        _CHECKS.get(key, _Walk._plain)(self, item)
            elif isinstance(value, list):
                waiting.extend(value)
            elif isinstance(value, str):
                self._plain(value)

    def _refuse(self, what: str) -> UnsafeSourceError:
        return UnsafeSourceError(
            f"'{self._path}' holds {what}, which would run as Python; it was not loaded",
            hint="torch.export.save writes no such thing; get the file from whoever trained it",
        )

    def _plain(self, text: str) -> None:
        if not _PLAIN.fullmatch(text):
            raise self._refuse(f"the name {text[:80]!r}")

    def _target(self, text: str) -> None:
        custom = _CUSTOM.fullmatch(text)
        if _TARGET.fullmatch(text) and not _FILES.fullmatch(text):
            return
        if custom and not _FILES.fullmatch(text):
            raise SourceError(
                f"'{self._path}' uses the operator {custom.group(1)}, whose code is not in the "
                "file; expected PyTorch's own (aten)",
                hint="write the model with PyTorch's operators, or decompose it before saving: "
                "program.run_decompositions()",
            )
        raise self._refuse(f"the operator {text[:80]!r}")

    def _expression(self, text: str) -> None:
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refuse(f"the expression {text[:80]!r}") from None
        named = {id(c.args[0]) for c in ast.walk(tree) if isinstance(c, ast.Call) and c.args
                 and isinstance(c.func, ast.Name) and c.func.id == "Symbol"}  # fmt: skip
        called = {id(c.func) for c in ast.walk(tree) if isinstance(c, ast.Call)}
        for part in ast.walk(tree):
            good = isinstance(part, _NODES)
            if isinstance(part, ast.Name):
                known = _FUNCTION if id(part) in called else _WORD
                good = known.fullmatch(part.id) is not None
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                good = id(part) in named and _SYMBOL.fullmatch(part.value) is not None
            elif isinstance(part, ast.Call):
                good = isinstance(part.func, ast.Name)
            if not good:
                raise self._refuse(f"the expression {text[:80]!r}")

    def _tree(self, text: str) -> None:
        """Check how inputs or outputs nest; other types and enumerations import modules."""
        waiting = [json.loads(text)[1]]
        while waiting:
            spec = waiting.pop()
            context = spec["context"]
            keys = [] if context is None else json.loads(context)
            simple = (str, int, float, bool, type(None))
            if spec["type"] not in _TREES or (
                keys is not None
                and not (isinstance(keys, list) and all(isinstance(k, simple) for k in keys))
            ):
                raise SourceError(
                    f"'{self._path}' takes or returns a {spec['type']}; expected tensors, and "
                    "tuples, lists and dicts of them",
                    hint="wrap the model in a Module whose forward takes and returns tensors",
                )
            waiting.extend(spec["children_spec"])

    def _any(self, text: str) -> None:
        """Accept an argument of an operator: it stays a string."""


_CHECKS: Final[Mapping[str, Callable[[_Walk, str], None]]] = {
    "target": _Walk._target,
    "as_operator": _Walk._target,
    "expr_str": _Walk._expression,
    "in_spec": _Walk._tree,
    "out_spec": _Walk._tree,
    "as_string": _Walk._any,
}
