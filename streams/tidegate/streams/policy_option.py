"""The policy that `--policy NAME|FILE` names."""

from difflib import get_close_matches
from pathlib import Path

from tidegate.rules.policy import PACKS, Policy, PolicyError, builtin_policy, load_policy
from tidegate.streams.errors import UsageError

__all__ = ["policy_named"]


def policy_named(name: str) -> Policy:
    """A built-in pack by its name, or a policy file. Raises UsageError with every problem found."""
    if name in PACKS:
        return builtin_policy(name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        near = get_close_matches(name, PACKS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        reason = problem.strerror if isinstance(problem, OSError) else "is not UTF-8 text"
        raise UsageError(
            f"--policy {name}: {reason}{hint}; give a YAML file or one of {', '.join(PACKS)}"
        ) from problem
    try:
        return load_policy(text, where=name)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem
