"""What packaging promises: two distributions in one namespace, a lock without addresses, reasons."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-lock.txt"
RUNTIME = ROOT / "docs" / "compose" / "requirements-runtime.txt"
SOURCES = ("schemas", "rules", "streams", "tests")


def pins(path: Path) -> set[str]:
    """`name==version` with its marker, one a requirement."""
    lines = path.read_text().splitlines()
    return {line.rstrip(" \\") for line in lines if "==" in line and "--hash" not in line}


def names(requirements: set[str]) -> set[str]:
    return {re.split(r"[=<>! \[;]", text)[0].lower() for text in requirements}


@pytest.mark.parametrize("path", [LOCK, RUNTIME], ids=["all", "runtime"])
def test_the_lock_has_a_hash_for_everything_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?:|--(extra-)?index|--find-links|file:| @ ", text)
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block


def test_the_image_installs_versions_of_the_lock() -> None:
    locked = {re.split(r" ?;", pin)[0] for pin in pins(LOCK)}
    assert {re.split(r" ?;", pin)[0] for pin in pins(RUNTIME)} <= locked
    assert not names(pins(RUNTIME)) & {"pytest", "mypy", "ruff", "rotel"}


def test_everything_that_is_declared_is_locked() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    client = tomllib.loads((ROOT / "schemas" / "pyproject.toml").read_text())
    declared = {
        *root["project"]["dependencies"],
        *root["dependency-groups"]["dev"],
        *client["project"]["dependencies"],
        *client["project"]["optional-dependencies"]["otel"],
        *client["project"]["optional-dependencies"]["host"],
    }
    assert names(declared) - names(pins(LOCK)) == {"tidegate-client"}


def test_the_client_has_two_dependencies() -> None:
    client = tomllib.loads((ROOT / "schemas" / "pyproject.toml").read_text())
    assert names(set(client["project"]["dependencies"])) == {"confluent-kafka", "msgspec"}


def test_the_namespace_belongs_to_nobody() -> None:
    for source in ("schemas", "rules", "streams"):
        assert not (ROOT / source / "tidegate" / "__init__.py").exists()


def test_every_ignore_has_a_reason() -> None:
    unexplained = []
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                ignore = re.search(r"# (?:noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\])(.*)", line)
                if ignore and len(ignore[1].strip(" -#")) < 8 and path != Path(__file__):
                    unexplained.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not unexplained, "give a reason: `# noqa: CODE - why` or `# type: ignore[code]  # why`"
