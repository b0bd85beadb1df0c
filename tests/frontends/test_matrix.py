"""Every model of the matrix imports, agrees with its framework, builds and conforms."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from matrix import Case, all_cases
from support import SHARED_MODELS

import mlopsc
from mlopsc.frontends import frontend


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_matrix(case: Case, tmp_path: Path) -> None:
    needed = (*frontend(case.framework).MODULES, *case.needs)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if case.shared and not SHARED_MODELS.is_dir():
        pytest.skip("no shared models")
    (tmp_path / "source").mkdir()
    source = case.make(tmp_path / "source")
    bundle = tmp_path / f"{case.name}.mlb"
    made = mlopsc.import_model(source.model, bundle, **source.options)
    check = made.manifest.framework
    assert check is not None
    assert check.compared, check.reason
    assert not check.accepted
    mlopsc.build(bundle, case.targets, tmp_path / "packages")
    for target in case.targets:
        report = mlopsc.conform(tmp_path / "packages" / target)
        assert report.verdict == "pass", (target, report)
