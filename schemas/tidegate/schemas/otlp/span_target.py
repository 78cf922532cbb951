"""Who a call goes to, from the slots of its span: `classify.target_of` on bytes, as slices to intern."""

# numba compiles these to machine integers, which mypy takes for objects of other types than `int`.
# mypy: disable-error-code="arg-type, assignment, return-value, operator, index, no-any-return"

import numpy as np
import numpy.typing as npt

from tidegate.schemas.compiling import bare_kernel, inlined_kernel
from tidegate.schemas.otlp.interning import TARGETS, intern
from tidegate.schemas.otlp.names import SPAN_NAMES
from tidegate.schemas.otlp.reading import Slots, text_of
from tidegate.schemas.otlp.wire import Bytes, byte_at

__all__ = ["TARGET_BY_NAME", "TARGET_BY_URL", "TARGET_JOINED", "target_of"]

TARGET_JOINED, TARGET_BY_URL, TARGET_BY_NAME = 0, 1, 2
"""Modes: what Python is to make of the slices."""
_SLASH, _QUESTION, _HASH = 47, 63, 35


def _numbers(*names: str) -> tuple[int, ...]:
    return tuple(SPAN_NAMES.index(name) for name in names)


(_PEER, _METHOD, _SERVICE, _MSG) = _numbers(
    "peer.service", "rpc.method", "rpc.service", "messaging.system"
)
(_DB_NEW, _DB_OLD, _DB_NS_NEW, _DB_NS_OLD) = _numbers(
    "db.system.name", "db.system", "db.namespace", "db.name"
)
(_MSG_TO_NEW, _MSG_TO_OLD) = _numbers("messaging.destination.name", "messaging.destination")
(_ADDRESS_NEW, _ADDRESS_OLD, _URL_NEW, _URL_OLD) = _numbers(
    "server.address", "net.peer.name", "url.full", "http.url"
)


@bare_kernel
def target_of(
    buf: Bytes,
    slots: Slots,
    name: int,
    name_length: int,
    tables: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> int:
    """The number of its slices, -1 where the dictionary is full."""
    mode, b, b_length, c, c_length = TARGET_JOINED, np.int64(0), np.int64(0), 0, 0
    a, a_length = text_of(slots, _PEER, _PEER)
    if not a_length:
        a, a_length = text_of(slots, _DB_NEW, _DB_OLD)
        if a_length:
            b, b_length = text_of(slots, _DB_NS_NEW, _DB_NS_OLD)
    if not a_length:
        a, a_length = text_of(slots, _MSG, _MSG)
        if a_length:
            b, b_length = text_of(slots, _MSG_TO_NEW, _MSG_TO_OLD)
    if not a_length:
        b, b_length = _rpc_service(buf, slots)
        a, a_length = text_of(slots, _ADDRESS_NEW, _ADDRESS_OLD)
        if not a_length:
            a, a_length = text_of(slots, _URL_NEW, _URL_OLD)
            if a_length:
                mode, c, c_length = TARGET_BY_URL, name, name_length
                a_length = _authority_end(buf, a, a_length)
            elif b_length:
                a, a_length, b_length = b, b_length, 0
            else:
                mode, a, a_length = TARGET_BY_NAME, name, name_length
    return intern(
        buf, tables, entries, counts, TARGETS, mode, a, a_length, b, b_length, c, c_length
    )


@inlined_kernel
def _rpc_service(buf: Bytes, slots: Slots) -> tuple[int, int]:
    b, b_length = text_of(slots, _METHOD, _METHOD)
    while b_length and byte_at(buf, b + b_length - 1) != _SLASH:
        b_length -= 1
    b_length = max(0, b_length - 1)
    while b_length and byte_at(buf, b) == _SLASH:
        b, b_length = b + 1, b_length - 1
    if b_length:
        return b, b_length
    return text_of(slots, _SERVICE, _SERVICE)


@inlined_kernel
def _authority_end(buf: Bytes, start: int, length: int) -> int:
    """How much of a URL is scheme and authority: the path differs in every call, the host doesn't."""
    slashes = 0
    for i in range(length):
        byte = byte_at(buf, start + i)
        if byte == _SLASH:
            slashes += 1
            if slashes == 3:
                return i
        elif byte in (_QUESTION, _HASH):
            return i
    return length
