"""Versions of data sets: a file or folder gets one digest, and ``diff`` compares two versions.

Takes a path; gives its ``Contents``, or as an artefact a ``Fingerprint``. The digest depends on
names and contents only, never on the machine, times or permissions. Files that have not changed are
not read again.
"""

from mlopsc.data.compare import Difference, diff
from mlopsc.data.fingerprint import (
    FINGERPRINT_SUFFIX,
    Contents,
    digest_text,
    read_contents,
    read_fingerprint,
)

__all__ = [
    "FINGERPRINT_SUFFIX",
    "Contents",
    "Difference",
    "diff",
    "digest_text",
    "read_contents",
    "read_fingerprint",
]
