"""The policy that `--policy NAME|FILE` names."""

from tidegate.rules.policy import Policy, PolicyError
from tidegate.streams.errors import UsageError
from tidegate.streams.policy_files import read_policy

__all__ = ["policy_named"]


def policy_named(name: str) -> Policy:
    """A built-in pack by its name, or a policy file. Raises UsageError with every problem found."""
    try:
        return read_policy(name)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem
