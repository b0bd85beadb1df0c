"""A fit report as an HTML page."""

from __future__ import annotations

from mlopsc.schema.fit import FitReport


def page(report: FitReport) -> str:
    """Return the page."""
    return ""
