"""docs/security.md says what the tables in the code say."""

from pathlib import Path

from tidegate.client.kafka_keys import KNOWN
from tidegate.schemas.topics import Topics
from tidegate.streams.acls import Role, role_access

DOCS = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def tables() -> str:
    """The roles' access lists as the docs show them."""
    lines = ["| role | resource | name | operations | for |", "| --- | --- | --- | --- | --- |"]
    for role in Role:
        for access in role_access(role, Topics()):
            operations = ", ".join(name.title().replace("_", "") for name in access.operations)
            cells = (role.value, access.resource, f"`{access.name}`", operations, access.why)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_docs_list_each_roles_least_access() -> None:
    assert tables() in DOCS.read_text(), f"put this into {DOCS.name}:\n{tables()}"


def test_the_docs_name_every_setting_that_passes_through() -> None:
    text = DOCS.read_text()
    assert [key for key in sorted(KNOWN) if f"`{key}`" not in text] == []
