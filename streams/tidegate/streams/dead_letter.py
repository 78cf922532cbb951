"""The headers of a dead letter: where the record lay, and why it could not be used."""

from collections.abc import Mapping

__all__ = ["dead_letter_header", "dead_letter_headers"]

_PREFIX = "tidegate."


def dead_letter_headers(
    topic: str, partition: int, offset: int, facts: Mapping[str, str]
) -> list[tuple[str, bytes]]:
    """To be added to the record's own. facts: by name, `reason` above all."""
    place = {
        "source.topic": topic,
        "source.partition": str(partition),
        "source.offset": str(offset),
    }
    return [dead_letter_header(name, value) for name, value in {**place, **facts}.items()]


def dead_letter_header(name: str, value: str) -> tuple[str, bytes]:
    """One more."""
    return f"{_PREFIX}{name}", value.encode()
