"""`tidegate silence set|clear|list`: alerts that call nobody, for a time: now, or in a maintenance window."""

import argparse
import sys
from typing import TYPE_CHECKING

from tidegate.streams.asking import tell
from tidegate.streams.command_options import add_command, add_json_option
from tidegate.streams.control_options import (
    add_asking_options,
    duration_ms_of,
    duration_text,
    local_text,
    now_ms,
    scope_of,
    time_ms_of,
    who_of,
)
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.control import SilenceSet

__all__ = ["add_parser"]

_SCOPES = """\
SCOPE is service:NAME, edge:CALLER->TARGET, a pattern of them ('service:pay-*', 'edge:shop->*')
or '*' for everything; a plain name is taken as a service's."""
_SET = f"""\
Alerts of scopes that match call nobody until the time is over: they are published, marked as
silenced. What still lasts then is told. Levels are decided and obeyed as ever.

{_SCOPES}"""
_SET_EXAMPLES = """\
examples:
  tidegate silence set payments --for 2h --reason 'moving the database'
  tidegate silence set 'service:pay-*' --from 22:00 --for 3h --reason 'release 4.2'
  tidegate silence set '*' --from 2026-01-31T22:00 --for 1h --by kim --reason 'network'

exit status: 0 written, 1 Kafka can't be reached, 2 wrong usage"""
_CLEAR = f"""\
Ends the silence that was set with exactly this SCOPE.

{_SCOPES}"""
_CLEAR_EXAMPLES = """\
examples:
  tidegate silence clear payments --reason 'done early'"""
_LIST = "Shows the silences in force and those that lie ahead, who set them and why."
_LIST_EXAMPLES = """\
examples:
  tidegate silence list --brokers localhost:9092
  tidegate silence list --json | jq '.silences[].scope'"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate silence` with all its commands."""
    silence = subparsers.add_parser(
        "silence",
        help="silence alerts for a time",
        description=sys.modules[__name__].__doc__,
        epilog=_SET_EXAMPLES.partition("\n\nexit")[0],
    )
    commands = silence.add_subparsers(title="commands", metavar="COMMAND", dest="silence_command")

    put = add_command(commands, "set", "silence alerts", _SET, _SET_EXAMPLES)
    put.add_argument("scope", metavar="SCOPE", help="a scope, a pattern, a service, or '*'")
    put.add_argument(
        "--for", required=True, dest="duration", metavar="TIME", help="90s, 10m, 2h; at most 7d"
    )
    put.add_argument(
        "--from",
        dest="begins",
        metavar="TIME",
        help="when it begins: 22:00, 2026-01-31T22:00 (default: now)",
    )
    put.set_defaults(handler=_set)
    add_asking_options(put)
    add_kafka_options(put)

    clear = add_command(commands, "clear", "end a silence", _CLEAR, _CLEAR_EXAMPLES)
    clear.add_argument("scope", metavar="SCOPE", help="as it was set")
    clear.set_defaults(handler=_clear)
    add_asking_options(clear)
    add_kafka_options(clear)

    shown = add_command(commands, "list", "show what is silenced", _LIST, _LIST_EXAMPLES)
    add_json_option(shown)
    shown.set_defaults(handler=_list)
    add_kafka_options(shown)


def _set(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import SilenceSet
    from tidegate.streams.control_check import SILENCE_MAX_MS
    from tidegate.streams.control_client import ask

    scope, at_ms = _scope(args), now_ms()
    lasts_ms = duration_ms_of("--for", args.duration, max_ms=SILENCE_MAX_MS)
    from_ms = time_ms_of("--from", args.begins, now_ms=at_ms) if args.begins else at_ms
    record = SilenceSet(
        scope=scope,
        from_ms=from_ms,
        until_ms=from_ms + lasts_ms,
        by=who_of(args),
        reason=args.reason,
        asked_ms=at_ms,
    )
    asked = ask(kafka_config_of(args), topics_of(args), record)
    begins = f"from {local_text(from_ms)} " if args.begins else ""
    tell(args, asked, f"{scope} is silenced {begins}until {local_text(record.until_ms)}")
    return 0


def _clear(args: argparse.Namespace) -> int:
    from tidegate.schemas.control import SilenceClear
    from tidegate.streams.control_client import ask

    scope = _scope(args)
    record = SilenceClear(scope=scope, by=who_of(args), reason=args.reason, asked_ms=now_ms())
    asked = ask(kafka_config_of(args), topics_of(args), record)
    tell(args, asked, f"the silence {scope} is ended")
    return 0


def _list(args: argparse.Namespace) -> int:
    import msgspec

    from tidegate.schemas.control import SilenceClear, SilenceSet
    from tidegate.streams.control_client import read_control
    from tidegate.streams.control_topic import Accepted

    silences: dict[str, SilenceSet] = {}
    for one in read_control(kafka_config_of(args), topics_of(args)):
        if isinstance(one, Accepted) and isinstance(one.record, SilenceSet | SilenceClear):
            silences.pop(one.record.scope, None)
            if isinstance(one.record, SilenceSet):
                silences[one.record.scope] = one.record
    at_ms = now_ms()
    shown = [silence for silence in silences.values() if silence.until_ms > at_ms]
    if args.json:
        sys.stdout.write(msgspec.json.encode({"silences": shown}).decode() + "\n")
        return 0
    lines = [_line(silence, at_ms) for silence in shown] or ["nothing is silenced"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _line(silence: "SilenceSet", at_ms: int) -> str:
    if silence.from_ms > at_ms:
        when = f"from {local_text(silence.from_ms)} to {local_text(silence.until_ms)}"
    else:
        when = f"for {duration_text(silence.until_ms - at_ms)} more"
    return f"{silence.scope}  {when}  {silence.by}: {silence.reason}"


def _scope(args: argparse.Namespace) -> str:
    scope, said = scope_of(args.scope)
    if said:
        sys.stderr.write(f"{said}\n")
    return scope
