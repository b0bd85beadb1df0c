"""Measures what one inference of a package takes in an emulator."""

from __future__ import annotations

from mlopsc.errors import MissingToolError
from mlopsc.package_reader import LoadedPackage
from mlopsc.runners import RunResult, run_package


def measure_run(
    package: LoadedPackage, runner: str | None, timeout: float
) -> tuple[RunResult | None, str]:
    """Run the package on its first vector and count.

    Args:
        package: A verified package.
        runner: Which runner; the target's first by default.
        timeout: Seconds until the run is stopped.

    Returns:
        The result, or None and why there is none.

    Raises:
        BrokenPackageError: The library fails.
        MissingToolError: The runner that was asked for is not there.
    """
    vectors = package.vectors()
    if not vectors:
        return None, "the package has no test vector to run"
    try:
        found = run_package(
            package, [vectors[0].inputs], runner=runner, count=True, timeout=timeout
        )
    except MissingToolError as error:
        if runner is not None:
            raise
        return None, error.message
    return found, ""
