"""OTLP bytes to columns."""

from tidegate.schemas.otlp.decoding import decode

__all__ = ["decode"]
