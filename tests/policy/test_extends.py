"""Files that extend files: what holds, how they are told in messages, and the one text that is pushed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.rules.policy import PACKS, PolicyError, builtin_policy, load_policy
from tidegate.rules.policy_layers import CHAIN_MAX
from tidegate.streams.policy_files import flattened_yaml, layers_named, read_policy

EXTENDED = Path(__file__).parent / "extended"


def write(folder: Path, **texts: str) -> Path:
    """Files NAME.yaml; gives back the first one's path."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(texts))}.yaml"


def test_a_file_lies_over_its_parent_which_lies_over_its_pack() -> None:
    policy = read_policy(str(EXTENDED / "shop.yaml"))
    s = policy.settings[0]
    assert policy.label.startswith("shop@")
    assert (s.target_ms, s.mode, s.level.sleep_s, s.profile) == (250, "enforce", 40, "reference")
    assert policy.warnings == (builtin_policy("reference").file.warning,)


def test_rules_of_a_file_replace_those_of_its_parent() -> None:
    policy = read_policy(str(EXTENDED / "shop.yaml"))
    assert [rule.match.service for rule in policy.file.services] == ["pay-*", "pay-*"]
    assert policy.settings_for("batch-1", "") == 0


def test_names_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    write(tmp_path, base="name: base\nsettings: {target_ms: 7}")
    child = write(tmp_path / "teams", child="name: child\nextends: ../base.yaml")
    assert read_policy(str(child)).settings[0].target_ms == 7


def test_a_parent_needs_no_name(tmp_path: Path) -> None:
    child = write(tmp_path, child="name: c\nextends: p.yaml", p="settings: {target_ms: 9}")
    assert read_policy(str(child)).settings[0].target_ms == 9


@pytest.mark.parametrize(("files", "is_accepted"), [(CHAIN_MAX, True), (CHAIN_MAX + 1, False)])
def test_eight_files_may_extend_each_other(tmp_path: Path, files: int, is_accepted: bool) -> None:
    texts = {f"f{i}": f"name: f{i}\nextends: f{i + 1}.yaml\n" for i in range(files - 1)}
    first = write(tmp_path, **texts, **{f"f{files - 1}": "name: last\n"})
    if is_accepted:
        assert read_policy(str(first)).label.startswith("f0@")
    else:
        with pytest.raises(PolicyError, match=rf"f7.yaml:2: extends: .* at most {CHAIN_MAX}"):
            read_policy(str(first))


def test_a_ring_through_a_link_ends_too(tmp_path: Path) -> None:
    first = write(tmp_path, a="name: a\nextends: down/a.yaml")
    (tmp_path / "down").symlink_to(tmp_path)
    with pytest.raises(PolicyError, match=r"ring|at most 8"):
        read_policy(str(first))


def test_text_from_elsewhere_extends_packs_only() -> None:
    with pytest.raises(PolicyError, match=r"none is read here; `tidegate policy push`"):
        load_policy("name: x\nextends: base.yaml", where="pushed")


@pytest.mark.parametrize("name", [*PACKS, str(EXTENDED / "base.yaml"), str(EXTENDED / "shop.yaml")])
def test_the_flattened_text_is_the_same_policy_and_extends_a_pack(name: str) -> None:
    policy = load_policy(flattened_yaml(name), where="pushed")
    assert policy.label == read_policy(name).label
    assert policy.content() == read_policy(name).content()


def test_a_file_without_parents_is_flattened_to_what_was_written() -> None:
    path = EXTENDED / "base.yaml"
    assert flattened_yaml(str(path)) == path.read_text()


def test_a_flattened_text_says_what_it_was_made_of() -> None:
    text = flattened_yaml(str(EXTENDED / "shop.yaml"))
    assert text.startswith("# Merged from ")
    assert "sampling: head" in text


@pytest.mark.parametrize(
    "problem", ["settings: {target_ms: 0}", "settings: {level: {sleep_s: 900}}"]
)
def test_a_bad_policy_is_not_flattened(tmp_path: Path, problem: str) -> None:
    with pytest.raises(PolicyError):
        flattened_yaml(str(write(tmp_path, bad=f"name: bad\n{problem}\n")))


layer = st.fixed_dictionaries(
    {},
    optional={
        "target_ms": st.integers(1, 9),
        "expected_qps": st.none() | st.floats(1e-9, 1e9),
        "mode": st.sampled_from(["observe", "enforce"]),
        "level": st.fixed_dictionaries({}, optional={"sleep_s": st.integers(1, 300)}),
    },
)


@settings(deadline=None, max_examples=40)
@given(st.lists(layer, min_size=1, max_size=4), st.sampled_from(PACKS))
def test_any_chain_equals_its_layers_laid_over_each_other(
    tmp_path_factory: pytest.TempPathFactory, chain: list[dict[str, Any]], pack: str
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    bases = [f"f{i}.yaml" for i in range(1, len(chain))] + [pack]
    for i, own in enumerate(chain):
        text = yaml.safe_dump({"name": f"f{i}", "extends": bases[i], "settings": own})
        (folder / f"f{i}.yaml").write_text(text)
    found = read_policy(str(folder / "f0.yaml")).settings[0]
    plain: dict[str, Any] = {"level": {}}
    for own in reversed(chain):
        plain = plain | own | {"level": plain["level"] | own.get("level", {})}
    text = yaml.safe_dump({"name": "f0", "extends": pack, "settings": plain})
    assert found == load_policy(text, where="plain").settings[0]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"name: x\n\xff\n", "is not UTF-8: byte 0xff in line 2"),
        (b"x" * 4_000_001, "has more than 4000000 bytes"),
        (b"\xef\xbb\xbfname: x\n", ""),
    ],
    ids=["no UTF-8", "huge", "byte order mark"],
)
def test_bytes_of_a_file_are_read_within_bounds(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    if not told:
        assert read_policy(str(path)).label.startswith("x@")
        return
    with pytest.raises(PolicyError, match=told):
        read_policy(str(path))


def test_what_cannot_be_read_is_told_with_the_nearest_pack(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"referense: can't be read .* did you mean reference\?"):
        layers_named("referense")
    with pytest.raises(PolicyError, match=r"can't be read \(Is a directory\)$"):
        layers_named(str(tmp_path))
