"""Names of what signing adds to an artefact."""

from __future__ import annotations

from typing import Final

SIGNATURE_FOLDER: Final = "signature"
MODEL_SIGNATURE: Final = f"{SIGNATURE_FOLDER}/model.sig"
ATTESTATIONS: Final = f"{SIGNATURE_FOLDER}/attestations.intoto.jsonl"
SIGNATURE_FILES: Final = (ATTESTATIONS, MODEL_SIGNATURE)
