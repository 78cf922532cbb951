"""Where the goldens' files are, and what is in them."""

from pathlib import Path

import zstandard

from tests.goldens.incidents import Incident

__all__ = ["FOLDER", "decisions_path", "golden_decisions", "golden_records", "spans_path"]

FOLDER = Path(__file__).parent


def spans_path(incident: Incident) -> Path:
    """The recording."""
    return FOLDER / incident.name / "spans.jsonl.zst"


def decisions_path(incident: Incident, policy: str) -> Path:
    """What it leads to under a policy pack."""
    suffix = "" if policy == "default" else f"-{policy}"
    return FOLDER / incident.name / f"decisions{suffix}.jsonl"


def golden_records(incident: Incident) -> list[bytes]:
    """OTLP/JSON requests in their order."""
    packed = spans_path(incident).read_bytes()
    return zstandard.ZstdDecompressor().decompress(packed).splitlines()


def golden_decisions(incident: Incident, policy: str) -> bytes:
    """Lines of JSON."""
    return decisions_path(incident, policy).read_bytes()
