"""Which partition a key goes to: Kafka's murmur2, as Java's default partitioner and librdkafka's
`murmur2_random` place keyed records. Every keyed topic of Tidegate uses it, whoever writes.

Pure Python, about 2 us for a name of 20 bytes: callers that place many records remember the answer.
"""

__all__ = ["murmur2", "partition_of"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32 bit hash, unsigned (`org.apache.kafka.common.utils.Utils.murmur2`, read as unsigned)."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length != whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: str, partitions_count: int) -> int:
    """Partition of a keyed record, 0..partitions_count - 1: hash without its sign bit, modulo."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions_count
