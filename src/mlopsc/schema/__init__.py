"""The artefacts that pass between stages, one file each, as frozen pydantic models."""
