"""Workers and programs: whatever they do, the caller gets one clear error or the result."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlopsc.errors import (
    BrokenPackageError,
    CompilerError,
    MissingToolError,
    MlopscError,
    UnknownTargetError,
)
from mlopsc.tools import find_program, run_program, run_worker, run_zig, zig_version


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of Python that every worker process, and nothing else, runs when it starts."""
    folder = tmp_path / "start"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\nif 'mlopsc.worker' in sys.orig_argv:\n    import at_start\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "at_start.py"


def test_result_comes_back() -> None:
    assert run_worker("mlopsc.schema.common:c_identifier", {"name": "2 be"}) == "m2_be"


def test_result_may_hold_what_json_can(tmp_path: Path) -> None:
    (tmp_path / "ä.txt").write_text("x")
    names = run_worker("mlopsc.targets:target_names", {})
    assert "host" in names


@pytest.mark.parametrize("crash", [CompilerError, BrokenPackageError])
def test_expected_error_keeps_class_message_and_hint(crash: type[MlopscError]) -> None:
    with pytest.raises(UnknownTargetError) as caught:
        run_worker("mlopsc.targets:load_target", {"name": "cortex-m8"}, crash=crash)
    assert "cortex-m7" in caught.value.message
    assert "mlopsc targets" in caught.value.hint


@pytest.mark.parametrize("crash", [CompilerError, BrokenPackageError])
def test_unexpected_exception_becomes_one_line(crash: type[MlopscError]) -> None:
    with pytest.raises(crash) as caught:
        run_worker("mlopsc.schema.common:c_identifier", {"name": 5}, crash=crash)
    assert type(caught.value) is crash
    assert "TypeError" in caught.value.message
    assert "c_identifier" in caught.value.message
    assert "Traceback" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("function", ["mlopsc.nowhere:f", "mlopsc.errors:nothing"])
def test_function_that_does_not_exist(function: str) -> None:
    with pytest.raises(CompilerError) as caught:
        run_worker(function, {})
    assert function in caught.value.message
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize(
    "function", ["os:getcwd", "builtins:print", "mlopscx.evil:f", "subprocess:run", ":f"]
)
def test_only_functions_of_this_package_are_called(function: str) -> None:
    with pytest.raises(CompilerError, match="refused") as caught:
        run_worker(function, {})
    assert function in caught.value.message


def test_result_that_json_cannot_hold() -> None:
    with pytest.raises(CompilerError) as caught:
        run_worker("mlopsc.resources:kernels_dir", {})
    assert "JSON" in caught.value.message
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGKILL", "SIGILL", "SIGABRT"])
def test_death_by_a_signal_names_it(in_workers: Path, signal: str) -> None:
    in_workers.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{signal})\n")
    with pytest.raises(BrokenPackageError, match=signal) as caught:
        run_worker("mlopsc.targets:target_names", {}, crash=BrokenPackageError)
    assert "mlopsc.targets:target_names" in caught.value.message


def test_sudden_exit_names_the_status_and_the_last_words(in_workers: Path) -> None:
    in_workers.write_text(
        "import os, sys\nsys.stderr.write('first\\nout of cheese\\n')\nos._exit(7)\n"
    )
    with pytest.raises(CompilerError, match="status 7") as caught:
        run_worker("mlopsc.targets:target_names", {})
    assert "out of cheese" in caught.value.message
    assert "first" not in caught.value.message


def test_reply_of_a_worker_that_crashes_while_it_ends_counts(in_workers: Path) -> None:
    in_workers.write_text(
        "import os, signal\nos._exit = lambda status: os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    assert run_worker("mlopsc.schema.common:c_identifier", {"name": "a b"}) == "a_b"


def test_worker_that_hangs_is_stopped(in_workers: Path, tmp_path: Path) -> None:
    in_workers.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(BrokenPackageError, match="did not finish") as caught:
        run_worker("mlopsc.targets:target_names", {}, crash=BrokenPackageError, timeout=2)
    assert "2 s" in caught.value.message
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_noise_on_standard_output_does_not_disturb(in_workers: Path) -> None:
    in_workers.write_text("import os\nos.write(1, b'{\"result\": 5}' * 100000)\n")
    assert run_worker("mlopsc.schema.common:c_identifier", {"name": "a b"}) == "a_b"


def test_noise_on_standard_error_does_not_block(in_workers: Path) -> None:
    in_workers.write_text("import os\nos.write(2, b'warning\\n' * 100000)\n")
    assert run_worker("mlopsc.schema.common:c_identifier", {"name": "a b"}) == "a_b"


def test_current_folder_is_not_searched_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n")
    (tmp_path / "mlopsc").mkdir()
    (tmp_path / "mlopsc" / "__init__.py").write_text("raise SystemExit('the wrong mlopsc')\n")
    monkeypatch.chdir(tmp_path)
    assert run_worker("mlopsc.schema.common:c_identifier", {"name": "a b"}) == "a_b"


def test_workers_leave_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_worker("mlopsc.targets:target_names", {})
    with pytest.raises(UnknownTargetError):
        run_worker("mlopsc.targets:load_target", {"name": "nothing"})
    assert list(tmp_path.iterdir()) == []


def test_program_that_is_missing_is_named_with_its_installation() -> None:
    with pytest.raises(MissingToolError) as caught:
        find_program("no-such-program", install="apt-get install no-such-package")
    assert "no-such-program" in caught.value.message
    assert "apt-get install no-such-package" in caught.value.hint


def test_program_gets_its_arguments_unchanged() -> None:
    text = "; $(exit) 'quoted' \"twice\" *\n"
    code = "import sys; sys.stdout.write(sys.argv[1])"
    result = run_program(Path(sys.executable), ["-c", code, text])
    assert result.stdout.decode() == text


def test_program_that_hangs_is_an_error() -> None:
    code = "import time; time.sleep(600)"
    with pytest.raises(CompilerError, match="did not finish"):
        run_program(Path(sys.executable), ["-c", code], timeout=1)


def test_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("not a program")
    for name in ("program", "missing"):
        with pytest.raises(CompilerError, match=name):
            run_program(tmp_path / name, [])


def test_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("int main(void) { return undeclared_thing; }\n")
    with pytest.raises(CompilerError, match="undeclared_thing"):
        run_zig(["cc", "-c", "wrong.c", "-o", "wrong.o"], cwd=tmp_path)


def test_compiler_works_without_a_writable_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    (tmp_path / "right.c").write_text("int answer(void) { return 42; }\n")
    run_zig(["cc", "-c", "right.c", "-o", "right.o"], cwd=tmp_path)
    assert (tmp_path / "right.o").is_file()


def test_version_of_the_compiler_is_a_number() -> None:
    assert zig_version()[0].isdigit()
