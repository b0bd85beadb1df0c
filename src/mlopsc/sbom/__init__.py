"""Bills of materials: what an artefact consists of, where it came from and under which licences.

Takes the manifest of a bundle or the descriptor of a package, with the lineage and the ingredients.
Gives CycloneDX 1.6 JSON with a model card, and SPDX 2.3 JSON made from that. Ensures: the same
inputs give the same bytes; every file and ingredient is there with its digest; both texts are valid
by the schemas of their standards. ``spdx.py`` is imported by who needs it. See ``docs/sbom.md``.
"""

from __future__ import annotations

from mlopsc.sbom.artefacts import bundle_sbom, package_sbom
from mlopsc.sbom.document import EPOCH_VARIABLE
from mlopsc.sbom.reading import read_sbom

__all__ = ["EPOCH_VARIABLE", "bundle_sbom", "package_sbom", "read_sbom"]
