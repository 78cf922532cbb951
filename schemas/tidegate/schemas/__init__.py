"""What crosses the wire: OTLP bytes, blocks, decisions, topic names. Imports no numpy by itself:
services that install only the thin client need none."""
