"""Asking for something on the control topic, as every command does it: write the record, wait until workers
show it, tell offset and time."""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tidegate.streams.control_options import local_text
from tidegate.streams.errors import Failure
from tidegate.streams.kafka_options import kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.schemas.control import ControlRecord
    from tidegate.schemas.decision import Decision
    from tidegate.schemas.topics import Topics
    from tidegate.streams.control_client import Asked

__all__ = ["WAIT_S", "ask_and_tell", "ask_switch", "tell"]

WAIT_S = 10.0


def ask_switch(args: argparse.Namespace, record: "ControlRecord", text: str) -> int:
    """First what clients obey, then the history: nothing that fails with the latter may delay the former."""
    from tidegate.schemas.control import OverrideSet
    from tidegate.streams.control_client import ask, check_asked
    from tidegate.streams.kill_switch import switch_off, switch_on

    config, topics = kafka_config_of(args), topics_of(args)
    check_asked(record)
    if isinstance(record, OverrideSet):
        switch_on(config, topics, record)
    else:
        switch_off(config, topics)
    sys.stderr.write("the kill switch is written; clients obey it within 2 s, without any worker\n")
    try:
        asked = ask(config, topics, record)
    except Failure as problem:
        raise Failure(
            f"clients obey it, but its record in the history was not written, so that workers don't "
            f"show it: {problem}"
        ) from problem
    tell(args, asked, text)
    return 0


def ask_and_tell(
    args: argparse.Namespace,
    record: "ControlRecord",
    text: str,
    is_shown: "Callable[[Decision], bool]",
    *,
    concerned: "Callable[[Decision], bool] | None" = None,
) -> int:
    """Writes it and waits until a scope that matches shows it; of those that are `concerned`, if given: a
    change that concerns none has no effect to wait for."""
    from tidegate.streams.control_client import ask, check_asked

    config, topics = kafka_config_of(args), topics_of(args)
    check_asked(record)
    if not args.wait:
        tell(args, ask(config, topics, record), text)
        return 0
    return _ask_and_wait(args, config, topics, record, text, is_shown, concerned)


def _ask_and_wait(
    args: argparse.Namespace,
    config: Mapping[str, str],
    topics: "Topics",
    record: "ControlRecord",
    text: str,
    is_shown: "Callable[[Decision], bool]",
    concerned: "Callable[[Decision], bool] | None",
) -> int:
    from tidegate.streams.confirmation import Confirmation
    from tidegate.streams.control_client import ask

    scope = str(getattr(record, "scope", ""))
    confirmation = Confirmation(config, topics, scope)
    waited = None
    if concerned is not None:
        waited = {name for name, d in confirmation.newest.items() if concerned(d)}
    asked = ask(config, topics, record)
    if waited is not None and not waited:
        tell(
            args,
            asked,
            f"{text}; no scope showed it, so there is nothing to wait for",
            confirmed=[],
        )
        return 0
    shown = confirmation.wait(
        lambda d: (waited is None or d.scope in waited) and is_shown(d), timeout_s=WAIT_S
    )
    if shown:
        more = f" and {len(shown) - 1} more" if len(shown) > 1 else ""
        tell(args, asked, f"{text}; confirmed by {shown[0]}{more}", confirmed=shown)
        return 0
    tell(args, asked, text, confirmed=[])
    known = len(confirmation.newest)
    hint = (
        f"{known} scopes match: is a worker with `--role evaluate` running and not behind?"
        if known
        else "no scope that matches has been decided: is the name right? `tidegate watch` lists them"
    )
    raise Failure(
        f"no worker confirmed {scope} within {WAIT_S:.0f} s; it stands at offset "
        f"{asked.offset} of {topics.control} and takes effect once one reads it; {hint}"
    )


def tell(args: argparse.Namespace, asked: "Asked", text: str, **more: object) -> None:
    """One line of JSON with `more` in it, or what was done, its offset and when it takes effect."""
    if args.json:
        sys.stdout.write(asked.as_json(**more) + "\n")
    else:
        sys.stdout.write(
            f"{text}\n  offset {asked.offset}, in force from {local_text(asked.effective_ms)} "
            f"(boundary {asked.effective_boundary})\n"
        )
    sys.stdout.flush()
