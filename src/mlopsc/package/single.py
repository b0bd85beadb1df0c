"""One model as one header and at most two C files, for firmware that compiles what it ships.

Takes a ``Program``, its generated C and the files of ``kernels/`` that it calls; gives the texts of
``<name>.h``, ``<name>.c`` and, if there are weights, ``<name>_weights.c``. All that is not the API
is static, so models of different versions of this program link together. The C needs no flags: what
the library is compiled with, the files say themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlopsc.kernels import PUBLIC_HEADER, public_header
from mlopsc.package.driver import driver, header, weights_source
from mlopsc.schema.program import Program

_INCLUDE = re.compile(
    r'^#include (?:"(?P<own>.+)"|<(?P<system>std\w+\.h|string\.h)>)\n', re.MULTILINE
)
_GUARD = re.compile(r"\A(?:/\*.*?\*/\s*)?#ifndef (\w+)\n#define \1\n", re.DOTALL)
_CPLUSPLUS = re.compile(r"^#ifdef __cplusplus\n(?:extern \"C\" \{|\})\n#endif\n", re.MULTILINE)
# A function that other files call, where it is declared or defined: by its name, or by the macro
# that stands for it in a file that is included once per type.
_FUNCTION = re.compile(
    r"^(?:(?!static|extern|typedef)[a-z]\w*(?: \w+)* \**|(?=MLOPSC_[A-Z]+\())"
    r"(?P<name>(?:mlopsc_\w+|NAME)(?=\()|MLOPSC_[A-Z]+\((?P<made>\w+))"
    r"[^;{]*(?:\{|;(?: */\*[^*]*\*/)?)",
    re.MULTILINE,
)
_STATIC = re.compile(
    r"^static (?:inline )?(?:const )?\w+(?: \w+)*[ *]+(?P<name>\w+)(?=[(\[ ;])", re.MULTILINE
)
_INLINE = re.compile(r"^static inline ", re.MULTILINE)
_TYPE = re.compile(r"^(?:typedef [^{;]*?|\} ?)(\w+);", re.MULTILINE)
_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

_SYSTEM = ("stdbool.h", "stddef.h", "stdint.h")  # of the kernels and the driver
_PROLOGUE = """\
/* Attributes that only some compilers have: what a model does not use is no mistake, and kernels
 * stay functions of their own, because their stack is then shared and each sees memory through its
 * parameters alone. */
#if defined(__GNUC__)
#define MLOPSC_LOCAL static __attribute__((unused))
#define MLOPSC_KERNEL static __attribute__((noinline))
#else
#define MLOPSC_LOCAL static
#define MLOPSC_KERNEL static
#endif
"""
_EXACT = """\
/* From here on no multiplication is fused with an addition: the same bits on all processors. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
"""


@dataclass(frozen=True)
class SingleSource:
    """The texts of one model.

    Attributes:
        header: ``<name>.h``, with ``mlopsc.h`` in it.
        code: ``<name>.c``.
        weights: ``<name>_weights.c``; empty if there are none.
    """

    header: str
    code: str
    weights: str

    def files(self, name: str) -> dict[str, str]:
        """Return the texts by file name."""
        files = {f"{name}.h": self.header, f"{name}.c": self.code}
        return {**files, f"{name}_weights.c": self.weights} if self.weights else files


def single_source(
    program: Program,
    kernels: str,
    weights: bytes,
    files: Sequence[Path],
    *,
    version: str,
    target: str,
    bundle: str,
) -> SingleSource:
    """Return the texts of ``program``.

    Args:
        program: The lowered model.
        kernels: Text of ``kernels.c``.
        weights: The weights block.
        files: Headers and sources of ``kernels/`` that it needs.
        version: The user's version of the model.
        target: Name of the target.
        bundle: Digest of the bundle.
    """
    ours = header(program, version=version, target=target, threads=False)
    public = public_header().read_text(encoding="utf-8")
    steps = driver(program, version=version, target=target, bundle=bundle, threads=False)
    runtime = _Runtime(files)
    parts = [
        f"/* {program.name}: a compiled model. Generated; C11, no state, no allocation. */",
        "".join(f"#include <{name}>\n" for name in sorted({*_SYSTEM, *runtime.system})),
        f'#include "{program.name}.h"\n',
        _PROLOGUE,
        runtime.headers(m["own"] for text in (kernels, steps) for m in _INCLUDE.finditer(text)),
        _kernels(kernels),
        _steps(steps),
        *(
            [_EXACT, runtime.headers(runtime.files), *runtime.definitions()]
            if runtime.sources
            else []
        ),
    ]
    return SingleSource(
        header=ours.replace(f'#include "{PUBLIC_HEADER}"\n', public),
        code=_BLANK.sub("\n\n", "\n".join(part.strip("\n") + "\n" for part in parts if part)),
        weights=weights_source(program, embed=None, data=weights) if weights else "",
    )


def _kernels(text: str) -> str:
    """Return the kernels as static functions."""
    text = _INCLUDE.sub("", text)
    return re.sub(r"^(?=(?:void|int32_t) \w+\()", "MLOPSC_KERNEL ", text, flags=re.MULTILINE)


def _steps(text: str) -> str:
    """Return the driver without the prototypes of what now stands above it."""
    return re.sub(r"^extern void [^;]*;\n", "", _INCLUDE.sub("", text), flags=re.MULTILINE)


class _Runtime:
    """The files of ``kernels/`` that a model needs, as parts of one file."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = {
            path.name: _CPLUSPLUS.sub("", path.read_text(encoding="utf-8")) for path in files
        }
        self.sources = [name for name in self.files if name.endswith(".c")]
        self.system = {
            m["system"]
            for text in self.files.values()
            for m in _INCLUDE.finditer(text)
            if m["system"]
        }
        self._headers = {name for name, text in self.files.items() if _GUARD.match(text)}
        self._defined = {f for name in self.sources for f in _defined(self._expand(name, set()))}
        self._given: set[str] = set()

    def headers(self, names: Iterable[str | None]) -> str:
        """Return those of ``names`` that are headers and were not returned before.

        Their functions are static; of functions that are not defined here there is nothing.
        """
        texts = [self._expand(n, self._given) for n in names if n in self._headers]
        return "".join(self._static(text).strip("\n") + "\n\n" for text in texts if text)

    def definitions(self) -> list[str]:
        """Return the C files, whose own names do not meet."""
        return [self._part(name) for name in self.sources]

    def _expand(self, name: str, seen: set[str]) -> str:
        """Return a file with what it includes in its place; a header only if it is not ``seen``."""
        if name in seen:
            return ""
        if name in self._headers:
            seen.add(name)

        def include(match: re.Match[str]) -> str:
            own = match["own"]
            return self._expand(own, seen) if own in self.files else ""

        return _INCLUDE.sub(include, self.files[name])

    def _static(self, header: str) -> str:
        """Return a header whose functions are static, without those of other files."""

        def declare(match: re.Match[str]) -> str:
            name = match["made"] or match["name"]
            return f"MLOPSC_LOCAL {match[0]}" if name in self._defined else ""

        return _INLINE.sub("MLOPSC_LOCAL inline ", _FUNCTION.sub(declare, header))

    def _part(self, name: str) -> str:
        """Return one C file: its functions static, its own names prefixed, its macros ended."""
        text = self._expand(name, set(self._headers))
        plain = _COMMENT.sub("", text)
        own = {m["name"] for m in _STATIC.finditer(plain)} | set(_TYPE.findall(plain))
        text = _FUNCTION.sub(lambda m: f"MLOPSC_LOCAL {m[0]}", text)
        text = _INLINE.sub("MLOPSC_LOCAL inline ", text)
        prefix = Path(name).stem.removeprefix("mlopsc_")
        if own:
            names = "|".join(map(re.escape, sorted(own)))
            text = re.sub(rf"(?<![\w.>])({names})(?!\w)", rf"{prefix}_\1", text)
        ends = "".join(f"#undef {macro}\n" for macro in dict.fromkeys(_MACRO.findall(text)))
        return f"{text}\n{ends}"


def _defined(text: str) -> Iterable[str]:
    """Return the names of the functions that an expanded C file gives to others."""
    standing = re.search(r"^#define NAME (\w+)", text, re.MULTILINE)
    for match in _FUNCTION.finditer(text):
        if match[0].endswith("{"):
            name = match["made"] or match["name"]
            yield standing[1] if name == "NAME" and standing else name
