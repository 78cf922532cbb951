"""What the group robots of WeCom and DingTalk share: a 200 says nothing, the `errcode` in its body does."""

import msgspec

from tidegate.schemas.alert import Alert
from tidegate.streams.alert.channel import Channel, Refusal
from tidegate.streams.alert.grouped import Grouped
from tidegate.streams.alert.text import facts

__all__ = ["message_lines", "refusal_of"]


class _Answer(msgspec.Struct, frozen=True):
    errcode: int
    errmsg: str = ""


def refusal_of(body: bytes, passing: frozenset[int]) -> Refusal | None:
    """None for errcode 0. `passing`: codes that another try may not meet."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError:
        return Refusal("the answer is no JSON with an errcode", is_final=False)
    if answer.errcode == 0:
        return None
    reason = f"errcode {answer.errcode}: {answer.errmsg}"
    return Refusal(reason, is_final=answer.errcode not in passing)


def message_lines(alert: Alert, channel: Channel, grouped: Grouped | None) -> list[str]:
    """Below the headline: facts, links, and what the event goes by."""
    lines = facts(alert, grouped)
    traces = channel.links.of_traces(alert.exemplars)
    scope_url = channel.links.of_scope(alert.scope)
    links = [f"[{trace_id[:8]}]({url})" for trace_id, url in traces]
    if scope_url is not None:
        links.insert(0, f"[{alert.rule} dashboard]({scope_url})")
    if links:
        lines.append(" ".join(links))
    lines.append(f"incident {alert.id}, event {alert.number}")
    return lines
