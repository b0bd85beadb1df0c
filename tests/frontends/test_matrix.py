"""Every model of the matrix imports, agrees with its framework, builds and conforms."""

from __future__ import annotations

from pathlib import Path

import pytest
from matrix import Case, all_cases, missing, run_case

from mlopsc.errors import ConversionError


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_matrix(case: Case, tmp_path: Path) -> None:
    if absent := missing(case):
        pytest.skip(absent)
    if case.fails:
        with pytest.raises(ConversionError):
            run_case(case, tmp_path)
        return
    result = run_case(case, tmp_path)
    assert result.check.compared, result.check.reason
    assert result.check.drawn > 0
    assert not result.check.accepted
    assert result.verdicts == dict.fromkeys(case.targets, "pass")


def test_matrix_covers_what_is_promised() -> None:
    cases = all_cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert all(case.targets for case in cases)
