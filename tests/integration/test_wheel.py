"""The wheel is pure Python and complete: it builds packages where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (made,) = folder.glob("*.whl")
    return made


def test_wheel_is_pure_and_carries_kernels_and_targets(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("kernels", "targets"):
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
        assert files
        for path in files:
            assert f"mlopsc/_data/{path.relative_to(ROOT).as_posix()}" in names
    assert not [name for name in names if name.endswith((".so", ".a", ".o", ".dylib"))]


@pytest.mark.slow
def test_wheel_builds_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
    model = tmp_path / "digits.onnx"
    model.write_bytes((ROOT / "examples" / "digits" / "digits.onnx").read_bytes())

    def mlopsc(*arguments: str) -> str:
        command = [str(home / "bin" / "mlopsc"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    mlopsc("build", str(model), "-t", "host", "-t", "cortex-m7", "-t", "wasm32-simd", "-o", "out")
    shown = mlopsc("conform", "out/host", "out/cortex-m7", "out/wasm32-simd", "--json")
    assert shown.count('"verdict": "pass"') == 3
    where = subprocess.run(
        [python, "-c", "import mlopsc; print(mlopsc.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(home) in where.stdout
