"""Mutants of framework files, and what must hold when one is imported.

Whatever a mutant is, it ends within its limit of time, with a bundle or with one clear error of
ours, and none of its code runs. Frameworks take seconds to load, so a server process per framework
imports it once and forks a child for every mutant; the child is fenced in as a worker is, and does
what the workers of an import do.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from mlopsc import sandbox
from mlopsc.errors import MlopscError
from mlopsc.frontends import ONNX, frontend, recognise
from mlopsc.schema.import_options import ImportOptions

sys.path.append(str(Path(__file__).parents[1] / "frontends"))
from matrix import Case, all_cases, missing

# One of each kind of file.
MUTATED = (
    "torch_cnn", "keras_dense", "tf_old_style", "tf_frozen", "tflite_int8",
    "sklearn_logistic_regression", "sklearn_random_forest", "sklearn_strings", "xgboost_binary",
    "xgboost_categories", "lightgbm_binary", "catboost_regressor", "catboost_strings",
    "pmml_multinomial", "pmml_tree",
)  # fmt: skip
LIMIT_S = 60  # of the processor's time, whatever else the machine does
_WAIT_S = 600.0
_THREADED = ("torch", "tensorflow", "keras", "tflite", "jax")  # start threads when they compute
MEMORY = 10 << 30
_TOKENS = (b"0", b"-1", b"1e999", b"NaN", b"9999999999", b'""', b"null", b"[]", b"{}", b"true",
           b"../../../etc/passwd", b"os.system", b"\x00", b"<", b"&lol;")  # fmt: skip


class Outcome(NamedTuple):
    """What became of a mutant.

    Attributes:
        kind: ``imported``; ``refused`` with a clear error; ``died``: the framework crashed its
            worker, which a user is told in one error; ``fault``.
        text: What was said.
    """

    kind: str
    text: str = ""


@dataclass(frozen=True)
class Format:
    """Files of one case of the matrix that mutants are made of.

    Attributes:
        name: Of the case.
        framework: Its frontend.
        source: Name of the file or folder.
        files: Content of the file, or of every file of the folder.
        options: Of the import.
    """

    name: str
    framework: str
    source: str
    files: dict[str, bytes]
    options: dict[str, Any]


def formats() -> list[Case]:
    """Return the cases that mutants are made of: one for each kind of file, if it can run."""
    return [case for case in all_cases() if case.name in MUTATED and not missing(case)]


@cache
def format_of(case: Case) -> Format:
    """Return the files of ``case``, made in a process of its own.

    Raises:
        ValueError: It is a model in memory.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_make, (case.name,))


def _make(name: str) -> Format:
    case = next(case for case in all_cases() if case.name == name)
    with tempfile.TemporaryDirectory(prefix="mlopsc-fuzz-") as folder:
        source = case.make(Path(folder))
        if not isinstance(source.model, str | Path):
            raise ValueError(f"{name} is a model in memory")
        path = Path(source.model)
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files = {p.relative_to(path.parent).as_posix(): p.read_bytes() for p in inside}
        return Format(name, case.framework, path.name, files, dict(source.options))


def mutant(base: Format, seed: int) -> dict[str, bytes]:
    """Return the files of mutant number ``seed``."""
    rng = random.Random(f"{base.name} {seed}")  # noqa: S311 - to find faults, not to hide secrets
    files = dict(base.files)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(sorted(files))
        files[name] = _change(rng, files[name])
    return files


def _change(rng: random.Random, data: bytes) -> bytes:
    if data.startswith(b"PK\x03\x04") and rng.random() < 0.8:
        with suppress(Exception):  # an earlier change has damaged the archive
            return _change_member(rng, data)
    if rng.random() < 0.5 and not data[:4096].strip(b"\t\n\r\x20").translate(None, _TEXT):
        return _change_text(rng, data)
    return _change_bytes(rng, data)


_TEXT = bytes(range(32, 256)) + b"\t\n\r"


def _change_member(rng: random.Random, data: bytes) -> bytes:
    """Change, drop or rename one member of an archive that stays whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    kind = rng.random()
    content = members.pop(name)
    if kind < 0.8:
        members[name] = _change(rng, content)
    elif kind < 0.9:
        members[rng.choice(("../x", "x", name + "x"))] = content
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return made.getvalue()


def _change_text(rng: random.Random, data: bytes) -> bytes:
    """Replace, drop or double a token."""
    import re

    tokens = list(re.finditer(rb"[\w.+-]+|\"[^\"]*\"|<[^>]*>", data))
    if not tokens:
        return _change_bytes(rng, data)
    token, other = rng.choice(tokens), rng.choice(tokens)
    start, end = token.span()
    choices = (rng.choice(_TOKENS), other.group(), b"", token.group() * 2)
    return data[:start] + rng.choice(choices) + data[end:]


def _change_bytes(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return rng.randbytes(8)
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64)))
    choices: list[Callable[[], bytes]] = [
        lambda: data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :],
        lambda: data[:start] + rng.randbytes(end - start) + data[end:],
        lambda: data[:start] + data[end:],
        lambda: data[:start] + data[start:end] * 2 + data[end:],
        lambda: data[:start] + b"\xff" * (end - start) + data[end:],
        lambda: data[:start],
    ]
    return rng.choice(choices)()


class Judge:
    """Imports mutants of one framework."""

    def __init__(self, framework: str) -> None:
        """Start the server that has the framework loaded."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._server = context.Process(target=_serve, args=(framework, theirs), daemon=True)
        self._server.start()
        theirs.close()

    def judge(self, files: dict[str, bytes], base: Format) -> Outcome:
        """Import one mutant."""
        with tempfile.TemporaryDirectory(prefix="mlopsc-fuzz-") as name:
            folder = Path(name) / "source"
            for relative, data in files.items():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder / relative).write_bytes(data)
            self._connection.send((str(folder / base.source), str(Path(name)), base.options))
            kind, text = self._connection.recv()
            stray = sorted(p.name for p in Path(name).iterdir()) != ["export", "source"]
            if stray and (Path(name) / "export").is_dir():
                return Outcome("fault", f"files outside: {list(Path(name).iterdir())}")
            return Outcome(kind, text)

    def close(self) -> None:
        """End the server."""
        self._connection.close()
        self._server.join(10)
        self._server.kill()


@contextmanager
def judge_of(framework: str) -> Iterator[Judge]:
    """Yield a judge for the time of the block."""
    made = Judge(framework)
    try:
        yield made
    finally:
        made.close()


def _serve(framework: str, connection: Connection) -> None:
    """Fork a child for each request; the first, of what is whole, also warms this process up."""
    os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive a fork
    import importlib.util

    import mlopsc.frontend_worker
    import mlopsc.import_worker  # noqa: F401 - loaded once, for all children

    for name in (*frontend(framework).MODULES, framework):  # which may need itself to run only
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    warm = framework not in _THREADED
    while True:
        try:
            source, folder, options = connection.recv()
        except EOFError:
            return
        if warm:
            warm = False
            with tempfile.TemporaryDirectory() as place, suppress(MlopscError):
                import_one(Path(source), Path(place) / "export", options, fenced=False)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _die(write, source, folder, options)
        os.close(write)
        connection.send(_wait(child, read))


def _wait(child: int, read: int) -> tuple[str, str]:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            with os.fdopen(read, "rb") as pipe:
                said = pipe.read()
            if said:
                kind, text = json.loads(said)
                return kind, text
            code = os.waitstatus_to_exitcode(status)
            if code in (-signal.SIGXCPU, -signal.SIGKILL):
                return "fault", f"took more than {LIMIT_S} s of the processor's time"
            return "died", f"status {code}"
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    return "fault", f"took more than {_WAIT_S:g} s"


def _die(write: int, source: str, folder: str, options: dict[str, Any]) -> None:
    """Import in this child and report; it ends here."""
    import resource

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 1))
    try:
        outcome = Outcome("imported", import_one(Path(source), Path(folder) / "export", options))
    except MlopscError as error:
        outcome = Outcome("refused", f"{type(error).__name__}: {error.message}")
        if "Traceback" in error.message or "\n" in error.message or not error.hint:
            outcome = Outcome("fault", f"unclear: {outcome.text}")
    except BaseException as error:  # whatever it is, it is the finding
        outcome = Outcome("fault", f"{type(error).__name__}: {error}"[:500])
    os.write(write, json.dumps(outcome).encode())
    os._exit(0)


def import_one(source: Path, folder: Path, options: dict[str, Any], *, fenced: bool = True) -> str:
    """Do what the workers of an import do; return what the source was taken for."""
    from mlopsc.frontend_worker import export_model
    from mlopsc.import_job import as_ready
    from mlopsc.importer import import_bundle, load_onnx

    folder.mkdir()
    found = recognise(source)
    chosen = ImportOptions(**{**options, "trust": tuple(options.get("trust", ()))})
    if fenced:
        sandbox.enter()
    if found.framework == ONNX:
        load_onnx(source)
        return found.what
    export_model(
        source=str(source),
        framework=found.framework,
        what=found.what,
        digest="sha256:" + "0" * 64,
        folder=str(folder),
        options=chosen.to_json(),
    )
    ready = as_ready(folder, chosen, "mutant")
    import_bundle(ready.source, ready.options, ready.exported)
    return found.what
