"""Workers and programs: whatever they do, the caller gets one clear error or the result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlopsc.errors import (
    BrokenPackageError,
    CompilerError,
    MissingToolError,
    MlopscError,
    UnknownTargetError,
    UnsupportedOpError,
)
from mlopsc.tools import find_program, run_program, run_worker, run_zig, zig_version


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of Python that every worker process, and nothing else, runs when it starts."""
    folder = tmp_path / "start"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'mlopsc.worker' in sys.orig_argv:\n"
        "    os.register_at_fork(after_in_child=lambda: __import__('at_start'))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
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


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGILL", "SIGABRT"])
def test_death_by_a_signal_names_it(in_workers: Path, name: str) -> None:
    in_workers.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})\n")
    with pytest.raises(BrokenPackageError, match=name) as caught:
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


CALL = "import mlopsc.schema.common as module\nmodule.c_identifier = lambda name: "
IDENTIFIER = "mlopsc.schema.common:c_identifier"


def call(code: str) -> str:
    """Return code for ``in_workers``: evaluate ``code`` with ``name`` instead of the function."""
    return f"import os, time\n{CALL}{code}\n"


def test_jobs_follow_the_environment_and_the_folder_of_the_caller(
    in_workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_workers.write_text(call("[os.environ.get(name), os.getcwd()]"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("MLOPSC_TEST", "before")
    assert run_worker(IDENTIFIER, {"name": "MLOPSC_TEST"}) == ["before", str(Path.cwd())]
    monkeypatch.delenv("MLOPSC_TEST")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run_worker(IDENTIFIER, {"name": "MLOPSC_TEST"}) == [None, str(tmp_path / "elsewhere")]
    (tmp_path / "elsewhere").rmdir()
    assert run_worker(IDENTIFIER, {"name": "MLOPSC_TEST"})[0] is None


def test_jobs_of_several_threads_are_processes_of_their_own(in_workers: Path) -> None:
    in_workers.write_text(
        call("(time.sleep(0.05), os._exit(int(name)) if name.isdigit() else os.getpid())[1]")
    )

    def work(number: int) -> object:
        try:
            return run_worker(IDENTIFIER, {"name": str(number + 3) if number % 2 else "x"})
        except CompilerError as error:
            return f"status {number + 3}" in error.message

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(32)))
    assert results[1::2] == [True] * 16
    assert len({os.getpid(), *results[::2]}) == 17


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_workers_start_again_when_what_starts_them_has_died(in_workers: Path) -> None:
    in_workers.write_text(call("os.getppid()"))
    first = run_worker(IDENTIFIER, {"name": ""})
    assert first == run_worker(IDENTIFIER, {"name": ""})
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert run_worker(IDENTIFIER, {"name": ""}) not in (first, os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_no_worker_outlives_a_caller_that_is_killed(in_workers: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    in_workers.write_text(
        call(
            f"(open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}}\\n'), "
            "time.sleep(600))"
        )
    )
    code = f"from mlopsc.tools import run_worker\nrun_worker({IDENTIFIER!r}, {{'name': ''}})\n"
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        caller.kill()
    child, zygote = map(int, pids.read_text().split())
    assert zygote != caller.pid
    wait_until(lambda: not is_running(child) and not is_running(zygote))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_jobs_work_without_the_system_calls_that_forking_needs(
    in_workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_workers.write_text(call("os.getppid()"))
    (in_workers.parent / "sitecustomize.py").write_text(
        "import sys\nif 'mlopsc.worker' in sys.orig_argv:\n    import at_start\n"
    )
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert run_worker(IDENTIFIER, {"name": ""}) == os.getpid()
    in_workers.write_text(call("os._exit(5)"))
    with pytest.raises(CompilerError, match="status 5"):
        run_worker(IDENTIFIER, {"name": ""})
    in_workers.write_text(call("time.sleep(600)"))
    with pytest.raises(CompilerError, match="did not finish"):
        run_worker(IDENTIFIER, {"name": ""}, timeout=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_copy_of_the_caller_has_workers_of_its_own(in_workers: Path) -> None:
    in_workers.write_text(call("os.getppid()"))
    ours = run_worker(IDENTIFIER, {"name": ""})
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(run_worker(IDENTIFIER, {"name": ""})).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = int(os.read(reader, 64))
    assert theirs != ours
    wait_until(lambda: not is_running(theirs))
    assert run_worker(IDENTIFIER, {"name": ""}) == ours


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
def test_worker_gets_no_more_memory_than_it_may_take(in_workers: Path, tmp_path: Path) -> None:
    in_workers.write_text(call("len(bytearray(int(name)))"))
    assert run_worker(IDENTIFIER, {"name": str(1 << 20)}, memory=1 << 30) == 1 << 20
    with pytest.raises(BrokenPackageError, match="MemoryError"):
        run_worker(IDENTIFIER, {"name": str(2 << 30)}, memory=1 << 30, crash=BrokenPackageError)
    (tmp_path / "weights").touch()
    os.truncate(tmp_path / "weights", 2 << 30)
    in_workers.write_text("import mmap\n" + call("len(mmap.mmap(os.open(name, 0), 0, prot=1))"))
    assert run_worker(IDENTIFIER, {"name": str(tmp_path / "weights")}, memory=1 << 30) == 2 << 30


def test_error_of_a_worker_keeps_all_that_it_carries(in_workers: Path) -> None:
    in_workers.write_text(
        "from mlopsc.errors import UnsupportedOpError\n"
        "def fail(name):\n"
        "    raise UnsupportedOpError('no', hint='do', run_time_inputs=('a', 'b'))\n"
        f"{CALL}fail(name)\n"
    )
    with pytest.raises(UnsupportedOpError) as caught:
        run_worker(IDENTIFIER, {"name": ""})
    assert (caught.value.message, caught.value.hint) == ("no", "do")
    assert caught.value.run_time_inputs == ("a", "b")


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
