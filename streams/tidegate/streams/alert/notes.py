"""What a sender keeps beside its committed offset: which incidents it has put under which cause, and how far it has
decided. Kafka stores it with the offset, in one write, so both are always of the same moment.

A broker takes 4,096 characters. What doesn't fit is left out: the next sender then decides anew.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error

import msgspec

__all__ = ["GroupNote", "Note", "decode_note", "encode_note", "is_groupable_id"]

_VERSION = "g1:"
_CHARS_MAX = 4000
_BYTES_MAX = (_CHARS_MAX - len(_VERSION)) * 3 // 4 - 3
_ID_BYTES = 8
_WAITING_MAX = 500


class GroupNote(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One group."""

    key: str
    """Id of the incident that opened it."""
    base: int
    """A message's number is the offset of its record less this."""
    cause: str
    """Scope of the root cause."""
    tiers: tuple[str, ...]
    """P1, P2: whose channels were told."""
    ids: tuple[str, ...]
    """Incidents that stand, and those whose end was not dealt with yet."""
    news: int = -1
    """Offset of the newest that joined and was not told of, -1 none."""


class Note(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Of one partition."""

    decided_to: int = 0
    """Of every incident whose first event lies before this offset it was decided how it is told..."""
    waiting: tuple[int, ...] = ()
    """...but for those at these offsets. Ascending."""
    groups: tuple[GroupNote, ...] = ()
    """All other incidents are told one by one."""


_Packed = tuple[int, list[int], list[tuple[bytes, int, str, list[str], bytes, int]]]
_decoder = msgspec.msgpack.Decoder(_Packed)


def is_groupable_id(incident: str) -> bool:
    """Whether it fits into a note: 16 hex characters."""
    if len(incident) != 2 * _ID_BYTES:
        return False
    try:
        return bytes.fromhex(incident).hex() == incident
    except ValueError:
        return False


def encode_note(note: Note) -> str:
    """Text of at most 4,000 characters; the newest incidents and groups are left out where it would be longer."""
    groups = list(note.groups)
    while groups and len(_packed(note, groups, 0)) > _BYTES_MAX:
        groups.pop()
    most = (_BYTES_MAX - len(_packed(note, groups, 0))) // (_ID_BYTES + 2)
    return _VERSION + b64encode(_packed(note, groups, most)).decode()


def decode_note(text: str) -> Note:
    """An empty note for text that is none: it was written by an older sender, or by nobody."""
    if not text.startswith(_VERSION):
        return Note()
    try:
        decided_to, waiting, groups = _decoder.decode(
            b64decode(text[len(_VERSION) :], validate=True)
        )
    except (msgspec.DecodeError, Base64Error, ValueError):
        return Note()
    return Note(
        decided_to=decided_to,
        waiting=tuple(waiting),
        groups=tuple(
            GroupNote(
                key=key.hex(),
                base=base,
                cause=cause,
                tiers=tuple(tiers),
                ids=_ids_of(ids),
                news=news,
            )
            for key, base, cause, tiers, ids, news in groups
        ),
    )


def _packed(note: Note, groups: list[GroupNote], ids_max: int) -> bytes:
    packed, left = [], ids_max
    for group in groups:
        ids = group.ids[:left]
        left -= len(ids)
        joined = b"".join(bytes.fromhex(one) for one in ids)
        key, tiers = bytes.fromhex(group.key), list(group.tiers)
        packed.append((key, group.base, group.cause, tiers, joined, group.news))
    waiting = list(note.waiting[:_WAITING_MAX])
    return msgspec.msgpack.encode((note.decided_to, waiting, packed))


def _ids_of(joined: bytes) -> tuple[str, ...]:
    return tuple(
        joined[i : i + _ID_BYTES].hex() for i in range(0, len(joined) - _ID_BYTES + 1, _ID_BYTES)
    )
