"""Times calls that take turns, so that what the machine does meanwhile meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

# How long threads of the one that has just run may spin, waiting for work, before the next starts.
PAUSE_S = 0.3


def measure(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, seconds: float, pause: float = 0.0
) -> dict[str, list[float]]:
    """Time calls in alternating bursts.

    A burst is one call that does not count, for caches and sleeping threads, and then as many as
    fit into ``seconds``, but one at least.

    Args:
        calls: What to time, by name.
        rounds: Bursts of each.
        seconds: Length of a burst.
        pause: Seconds without work before each burst.

    Returns:
        The median seconds of a call in each burst, by name.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(pause)
            found[name].append(_burst(call, seconds))
    return found


def _burst(call: Callable[[], Any], seconds: float) -> float:
    call()
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
