"""The version of the toolchain; packages and bundles record it."""

__version__ = "0.1.0"
