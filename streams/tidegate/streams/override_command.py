"""`tidegate override set|clear|list|lock|reset|relearn`: an operator's word, above policy and incidents."""

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidegate.schemas.level import LEVEL_NAMES
from tidegate.streams.asking import WAIT_S, ask_and_tell, ask_switch, tell
from tidegate.streams.command_options import add_command, add_json_option
from tidegate.streams.control_options import (
    add_asking_options,
    duration_ms_of,
    duration_text,
    local_text,
    now_ms,
    scope_of,
    who_of,
)
from tidegate.streams.errors import UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.control import OverrideSet
    from tidegate.schemas.decision import Decision

__all__ = ["add_parser"]

_SCOPES = """\
SCOPE is service:NAME, edge:CALLER->TARGET, a pattern of them ('service:pay-*', 'edge:shop->*')
or '*' for everything; a plain name is taken as a service's.
"""
_SET = f"""\
Puts a level in force for all scopes that match, above policy and incidents, in any mode, until
its time is over or it is cleared. Setting the same SCOPE again replaces it; where several match,
the newest counts.

{_SCOPES}
For '*' it is the kill switch: it goes straight to all clients, no worker needed, and
`closed` lets everything pass."""
_SET_EXAMPLES = """\
examples:
  tidegate override set payments closed --for 10m --reason 'false alarm, see INC-12'
  tidegate override set 'edge:shop->*' degraded_2 --for 2h --by kim --reason 'sale'
  tidegate override set '*' closed --for 10m --reason 'breakers off while we look'

exit status: 0 in force, 1 no worker confirmed it in time, or Kafka can't be reached, 2 wrong usage"""
_CLEAR = f"""\
Ends the override that was set with exactly this SCOPE.

{_SCOPES}"""
_CLEAR_EXAMPLES = """\
examples:
  tidegate override clear payments --reason 'fixed'
  tidegate override clear '*' --reason 'looked; was the network'"""
_LIST = "Shows the overrides in force, and until when, who set them and why."
_LIST_EXAMPLES = """\
examples:
  tidegate override list --brokers localhost:9092
  tidegate override list --json | jq '.overrides[].scope'"""
_LOCK = f"""\
Locks all scopes that match and run under the protocol `latched`: nothing passes until they are
reset. Others ignore it.

{_SCOPES}"""
_LOCK_EXAMPLES = """\
examples:
  tidegate override lock 'edge:shop->payments' --reason 'double charges'"""
_RESET = f"""\
Closes all scopes that match and run under the protocol `latched`, locked ones too.

{_SCOPES}"""
_RESET_EXAMPLES = """\
examples:
  tidegate override reset 'edge:shop->payments' --reason 'fix is out'"""
_RELEARN = f"""\
Forgets what is usual for all scopes that match (durations, requests, share of bad ones): it is
learned anew, and until it is known again nothing counts as slow.

{_SCOPES}"""
_RELEARN_EXAMPLES = """\
examples:
  tidegate override relearn payments --reason 'twice as fast since 4.2'"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate override` with all its commands."""
    override = subparsers.add_parser(
        "override",
        help="set, clear and list levels by hand; the kill switch",
        description=sys.modules[__name__].__doc__,
        epilog=_SET_EXAMPLES.partition("\n\nexit")[0],
    )
    commands = override.add_subparsers(title="commands", metavar="COMMAND", dest="override_command")

    put = add_command(commands, "set", "put a level in force", _SET, _SET_EXAMPLES)
    put.add_argument("scope", metavar="SCOPE", help="a scope, a pattern, a service, or '*'")
    put.add_argument("level", metavar="LEVEL", help=f"one of {', '.join(LEVEL_NAMES)}")
    put.add_argument(
        "--for", required=True, dest="duration", metavar="TIME", help="10m, 2h; at most 7d"
    )
    put.set_defaults(handler=_set)
    _add_common(put)

    for name, text, description, examples, handler in (
        ("clear", "end an override", _CLEAR, _CLEAR_EXAMPLES, _clear),
        ("lock", "lock scopes of the protocol `latched`", _LOCK, _LOCK_EXAMPLES, _lock),
        ("reset", "close scopes of the protocol `latched`", _RESET, _RESET_EXAMPLES, _reset),
        ("relearn", "forget what is usual", _RELEARN, _RELEARN_EXAMPLES, _relearn),
    ):
        parser = add_command(commands, name, text, description, examples)
        parser.add_argument("scope", metavar="SCOPE", help="a scope, a pattern, a service, or '*'")
        parser.set_defaults(handler=handler)
        _add_common(parser, can_wait=name != "relearn")

    shown = add_command(commands, "list", "show what is in force", _LIST, _LIST_EXAMPLES)
    add_json_option(shown)
    shown.set_defaults(handler=_list)
    add_kafka_options(shown)


def _add_common(parser: argparse.ArgumentParser, *, can_wait: bool = True) -> None:
    add_asking_options(parser)
    if can_wait:
        parser.add_argument(
            "--wait",
            action=argparse.BooleanOptionalAction,
            default=True,
            help=f"wait up to {WAIT_S:.0f} s until a worker has confirmed it (default: yes)",
        )
    add_kafka_options(parser)


# ---- handlers ----


def _set(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import OverrideSet
    from tidegate.streams.control_check import OVERRIDE_MAX_MS

    scope = _scope(args)
    if args.level not in LEVEL_NAMES:
        raise UsageError(f"{args.level!r} is no level; give one of {', '.join(LEVEL_NAMES)}")
    lasts_ms = duration_ms_of("--for", args.duration, max_ms=OVERRIDE_MAX_MS)
    at_ms = now_ms()
    record = OverrideSet(
        scope=scope,
        level=args.level,
        until_ms=at_ms + lasts_ms,
        by=who_of(args),
        reason=args.reason,
        asked_ms=at_ms,
    )
    text = f"{scope} is {args.level} until {local_text(record.until_ms)}"
    if scope == "*":
        return ask_switch(args, record, text)

    def is_shown(decision: "Decision") -> bool:
        told = decision.override
        return told is not None and (told.scope, told.until_ms) == (scope, record.until_ms)

    return ask_and_tell(args, record, text, is_shown)


def _clear(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import OverrideClear

    scope = _scope(args)
    record = OverrideClear(scope=scope, by=who_of(args), reason=args.reason, asked_ms=now_ms())
    text = f"the override {scope} is ended"
    if scope == "*":
        return ask_switch(args, record, text)

    def is_there(decision: "Decision") -> bool:
        return decision.override is not None and decision.override.scope == scope

    return ask_and_tell(args, record, text, lambda d: not is_there(d), concerned=is_there)


def _lock(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import LatchReset

    scope = _scope(args)
    record = LatchReset(
        scope=scope, action="lock", by=who_of(args), reason=args.reason, asked_ms=now_ms()
    )
    return ask_and_tell(args, record, f"{scope} is locked", lambda d: d.level == "locked")


def _reset(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import LatchReset

    scope = _scope(args)
    record = LatchReset(
        scope=scope, action="reset", by=who_of(args), reason=args.reason, asked_ms=now_ms()
    )
    return ask_and_tell(
        args,
        record,
        f"{scope} is reset",
        lambda d: d.level == "closed",
        concerned=lambda d: d.protocol == "latched" and d.level != "closed",
    )


def _relearn(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import Relearn
    from tidegate.streams.control_client import ask

    scope = _scope(args)
    record = Relearn(scope=scope, by=who_of(args), reason=args.reason, asked_ms=now_ms())
    asked = ask(kafka_config_of(args), topics_of(args), record)
    tell(args, asked, f"what is usual for {scope} is learned anew")
    return 0


def _list(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import OverrideClear, OverrideSet
    from tidegate.streams.control_client import read_control
    from tidegate.streams.control_topic import Accepted
    from tidegate.streams.kill_switch import newest_switch, switch_records

    config, topics, at_ms = kafka_config_of(args), topics_of(args), now_ms()
    rows: dict[str, dict[str, Any]] = {}
    for one in read_control(config, topics):
        if not isinstance(one, Accepted):
            continue
        match one.record:
            case OverrideSet(scope=scope) as record:
                rows.pop(scope, None)  # the newest counts, and stands last
                rows[scope] = _row(record) | {"offset": one.offset}
            case OverrideClear(scope=scope):
                rows.pop(scope, None)
            case _:
                pass
    switch = newest_switch(switch_records(config, topics), now_ms=at_ms)
    rows = {scope: row for scope, row in rows.items() if row["until_ms"] > at_ms and scope != "*"}
    if switch is not None and switch.override is not None:
        rows["*"] = _row(switch.override) | {"offset": None}
    if args.json:
        import msgspec

        sys.stdout.write(msgspec.json.encode({"overrides": list(rows.values())}).decode() + "\n")
        return 0
    lines = [_line(row, at_ms) for row in rows.values()] or ["no override is in force"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


# ---- parts ----


def _scope(args: argparse.Namespace) -> str:
    scope, said = scope_of(args.scope)
    if said:
        sys.stderr.write(f"{said}\n")
    return scope


def _row(override: "OverrideSet | Any") -> dict[str, Any]:
    return {
        name: getattr(override, name) for name in ("scope", "level", "until_ms", "by", "reason")
    }


def _line(row: Mapping[str, Any], at_ms: int) -> str:
    left = duration_text(row["until_ms"] - at_ms)
    switch = "  (kill switch)" if row["scope"] == "*" else ""
    return f"{row['scope']}  {row['level']}  for {left} more  {row['by']}: {row['reason']}{switch}"
