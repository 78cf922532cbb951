"""Metrics, from OTLP bytes to L2 and L5."""
