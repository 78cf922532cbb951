"""`tidegate policy push|history|rollback|promote|abort|status`: policies of a running installation. What is in
force is what the control topic says: these commands write to it and read it, nothing else.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidegate.streams.asking import tell
from tidegate.streams.command_options import add_command, add_json_option
from tidegate.streams.control_options import add_asking_options, local_text, now_ms, who_of
from tidegate.streams.errors import Failure, UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.control import ControlRecord, PolicyPush
    from tidegate.streams.control_topic import Accepted, Refused

__all__ = ["add_subparsers"]

_PUSH = """\
Checks a policy here, files that it extends included, and puts it in force in all workers at one
boundary. With --grey it is tried on some services, whose decisions it then makes; with --shadow
it decides beside the one in force and is never obeyed. `promote` puts a tried one in force for
all, `abort` drops it. A policy that can't be used changes nothing."""
_PUSH_EXAMPLES = """\
examples:
  tidegate policy push shop.yaml --reason 'limits of the new shop'
  tidegate policy push shop.yaml --shadow --reason 'what would it do?'
  tidegate policy push shop.yaml --grey 10% --services 'cart-*' --reason 'first tenth'
  tidegate policy push default --by kim --reason 'back to the built-in one'

exit status: 0 written, 1 Kafka can't be reached, 2 wrong usage or a policy that can't be used"""
_HISTORY = """\
Lists every policy that was pushed, promoted or dropped: when, by whom, why, and of those that
were refused, what was wrong."""
_HISTORY_EXAMPLES = """\
examples:
  tidegate policy history
  tidegate policy history --json | jq 'select(.problems != [])'"""
_ROLLBACK = """\
Pushes an earlier policy again, as it was written then, for all services: the one before the one
in force, or the one that --to names. What is being tried is dropped by that."""
_ROLLBACK_EXAMPLES = """\
examples:
  tidegate policy rollback --reason 'too strict'
  tidegate policy rollback --to shop@1f2e3d4c --reason 'as before the sale'
  tidegate policy rollback --to 17 --reason 'as before the sale'

exit status: 0 written, 1 there is none to go back to, or Kafka can't be reached, 2 wrong usage"""
_PROMOTE = "Puts the policy that is tried (--grey or --shadow) in force for all services."
_PROMOTE_EXAMPLES = """\
examples:
  tidegate policy promote --reason 'a day in shadow without surprises'"""
_ABORT = "Drops the policy that is tried (--grey or --shadow)."
_ABORT_EXAMPLES = """\
examples:
  tidegate policy abort --reason 'sheds too much'"""
_STATUS = "Shows the policy in force, the one that is tried, and since when."
_STATUS_EXAMPLES = """\
examples:
  tidegate policy status
  tidegate policy status --json | jq -r .in_force.policy"""


def add_subparsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds these commands to those of `tidegate policy`."""
    push = add_command(commands, "push", "put a policy in force", _PUSH, _PUSH_EXAMPLES)
    push.add_argument("policy", metavar="FILE|PACK", help="a YAML file, or a built-in policy")
    push.add_argument(
        "--grey", metavar="SHARE", help="try it on this share of services: 10%% or 0.1"
    )
    push.add_argument(
        "--services",
        action="append",
        default=[],
        metavar="GLOB",
        help="try it on services that match (repeat for more)",
    )
    push.add_argument("--shadow", action="store_true", help="decide beside, never obeyed")
    push.set_defaults(handler=_push)

    rollback = add_command(commands, "rollback", "go back", _ROLLBACK, _ROLLBACK_EXAMPLES)
    rollback.add_argument(
        "--to", metavar="OFFSET|LABEL", help="an offset or a NAME@VERSION of `policy history`"
    )
    rollback.set_defaults(handler=_rollback)
    promote = add_command(
        commands, "promote", "put the tried one in force", _PROMOTE, _PROMOTE_EXAMPLES
    )
    promote.set_defaults(handler=_promote)
    abort = add_command(commands, "abort", "drop the tried one", _ABORT, _ABORT_EXAMPLES)
    abort.set_defaults(handler=_abort)
    for parser in (push, rollback, promote):
        parser.add_argument(
            "--yes", action="store_true", help="put it in force although it comes with a warning"
        )
    for parser in (push, rollback, promote, abort):
        add_asking_options(parser)
        add_kafka_options(parser)

    history = add_command(commands, "history", "list what was pushed", _HISTORY, _HISTORY_EXAMPLES)
    history.add_argument("--json", action="store_true", help="a JSON line each")
    history.set_defaults(handler=_history)
    status = add_command(commands, "status", "show what is in force", _STATUS, _STATUS_EXAMPLES)
    add_json_option(status)
    status.set_defaults(handler=_status)
    for parser in (history, status):
        add_kafka_options(parser)


# ---- handlers ----


def _push(args: argparse.Namespace) -> int:
    from tidegate.rules.policy import PolicyError
    from tidegate.schemas.control import PolicyPush
    from tidegate.streams.policy_files import flattened_yaml

    is_grey = args.grey is not None or bool(args.services)
    if is_grey and args.shadow:
        raise UsageError("--shadow: is tried on all services; leave out --grey and --services")
    share = _share_of(args.grey) if args.grey is not None else 0.0
    try:
        text = flattened_yaml(args.policy)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem
    push = PolicyPush(
        text=text,
        where=args.policy,
        rollout="shadow" if args.shadow else "grey" if is_grey else "full",
        share=share,
        services=args.services,
        by=who_of(args),
        reason=args.reason,
        asked_ms=now_ms(),
    )
    return _ask_push(args, push)


def _rollback(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import PolicyPush
    from tidegate.streams.policy_history import rollback_target

    found = rollback_target(_records(args), args.to)
    push = PolicyPush(
        text=found.text,
        where=getattr(found.record, "where", ""),
        by=who_of(args),
        reason=args.reason,
        asked_ms=now_ms(),
    )
    return _ask_push(args, push)


def _promote(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import Promote

    tried = _tried(args)
    if tried.warnings and not args.yes:
        raise UsageError(_warned(tried.label, tried.warnings))
    record = Promote(by=who_of(args), reason=args.reason, asked_ms=now_ms())
    return _ask(args, record, f"{tried.label} is promoted: in force for all services")


def _abort(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import Abort

    tried = _tried(args)
    record = Abort(by=who_of(args), reason=args.reason, asked_ms=now_ms())
    return _ask(args, record, f"{tried.label} is dropped")


def _history(args: argparse.Namespace) -> int:
    import msgspec

    from tidegate.streams.policy_history import history_rows

    for row in history_rows(_records(args)):
        if args.json:
            sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        else:
            sys.stdout.writelines(f"{line}\n" for line in _row_lines(row))
    return 0


def _status(args: argparse.Namespace) -> int:
    import msgspec

    from tidegate.streams.policy_history import status_of

    status = status_of(_records(args)).as_dict()
    if args.json:
        sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
        return 0
    in_force, tried = status["in_force"], status["tried"]
    lines = [
        f"in force: {_status_text(in_force)}"
        if in_force
        else "in force: what workers were started with (`tidegate run --policy`): none was pushed"
    ]
    if tried:
        lines.append(f"tried ({tried['rollout']}): {_status_text(tried)}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


# ---- parts ----


def _records(args: argparse.Namespace) -> "list[Accepted | Refused]":
    from tidegate.streams.control_client import read_control

    return read_control(kafka_config_of(args), topics_of(args))


def _tried(args: argparse.Namespace) -> "Accepted":
    from tidegate.streams.policy_history import status_of

    tried = status_of(_records(args)).tried
    if tried is None:
        raise Failure(
            "no policy is tried; `tidegate policy push FILE --shadow` or `--grey` begins that"
        )
    return tried


def _ask_push(args: argparse.Namespace, push: "PolicyPush") -> int:
    """Once more as the sequencer will: what it would refuse is not even written."""
    from tidegate.rules.policy import PolicyError, load_policy
    from tidegate.streams.policy_history import rollout_text

    try:
        policy = load_policy(push.text, where=push.where)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem
    if policy.warnings and push.rollout != "shadow" and not args.yes:
        raise UsageError(_warned(policy.label, policy.warnings))
    return _ask(args, push, f"{policy.label} is pushed ({rollout_text(push)})", policy=policy.label)


def _ask(args: argparse.Namespace, record: "ControlRecord", text: str, **more: str) -> int:
    from tidegate.streams.control_client import ask

    tell(args, ask(kafka_config_of(args), topics_of(args), record), text, **more)
    return 0


def _warned(label: str, warnings: Sequence[str]) -> str:
    return f"{label}: {' '.join(warnings)} Give --yes to put it in force all the same"


def _share_of(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 < share <= 1:
        raise UsageError(f"--grey: {text!r} is no share of services; give 10% or 0.1, at most 100%")
    return share


def _row_lines(row: dict[str, Any]) -> Sequence[str]:
    what = row["kind"] if row["kind"] != "policy" else f"push {row['rollout']}"
    label = row["policy"] or row["where"]
    verdict = "" if row["is_accepted"] else "  REFUSED"
    head = f"{row['offset']:>6}  {local_text(row['append_ms'])}  {what}  {label}{verdict}"
    return [
        f"{head}  {row['by']}: {row['reason']}",
        *(f"        {problem}" for problem in row["problems"]),
    ]


def _status_text(row: dict[str, Any]) -> str:
    since = local_text(row["effective_ms"])
    return f"{row['policy']} since {since}, offset {row['offset']}, {row['by']}: {row['reason']}"
