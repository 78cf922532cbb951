"""A broker inside this process: librdkafka's mock cluster, which every confluent-kafka wheel carries.

For the demo and for quick tests; clients in other processes (confluent-kafka, aiokafka, Faust) connect
to it over TCP like to any broker. It is no place for data. Its limits, by librdkafka's design:

* a partition keeps its newest 5 MB or 100,000 records; older ones vanish without a word, so the
  demo's topics have enough partitions for what it writes;
* no compaction, no SASL or TLS, no disk, and timestamps are the producer's (no LogAppendTime);
* no admin requests: topics are named when the broker starts; any other topic that a client asks
  for comes into being with 4 partitions;
* at most some tens of thousands of records a second: it is one thread.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import confluent_kafka.cimpl

__all__ = ["EmbeddedBroker"]

_PRODUCER = 0
_QUIET_LOG_LEVEL = b"3"
_ERROR_CHARS_MAX = 512
_REBALANCE_DELAY_MS = 300
"""How long a group waits for more members at first. librdkafka's own 3 s only slows a demo down."""


class EmbeddedBroker:
    """`with EmbeddedBroker({"otlp_spans": 2}) as broker:` gives `broker.bootstrap`, "127.0.0.1:PORT".

    `topics` maps names to partition counts (at least 1). The broker lives until `stop`, or the end of
    the `with`; its clients should be closed before. Raises RuntimeError where the installed
    confluent-kafka has no mock cluster, ValueError for topics that can't be.
    """

    def __init__(self, topics: Mapping[str, int] | None = None, *, brokers_count: int = 1) -> None:
        self._topics = dict(topics or {})
        for name, partitions in self._topics.items():
            if not name or partitions < 1:
                raise ValueError(
                    f"topic {name!r} with {partitions} partitions; at least 1 is needed"
                )
        self._brokers_count = brokers_count
        self._handle: int | None = None
        self._cluster: int | None = None
        self._library = _library()
        self.bootstrap = ""

    def start(self) -> Self:
        """Listens on free ports of 127.0.0.1; `bootstrap` is set afterwards."""
        if self._cluster is not None:
            return self
        library = self._library
        error = ctypes.create_string_buffer(_ERROR_CHARS_MAX)
        config = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(config, b"log_level", _QUIET_LOG_LEVEL, error, _ERROR_CHARS_MAX)
        self._handle = library.rd_kafka_new(_PRODUCER, config, error, _ERROR_CHARS_MAX)
        if not self._handle:
            raise RuntimeError(f"librdkafka can't start: {error.value.decode(errors='replace')}")
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, self._brokers_count)
        if not self._cluster:
            self.stop()
            raise RuntimeError("librdkafka's mock cluster can't listen on 127.0.0.1")
        if hasattr(library, "rd_kafka_mock_group_initial_rebalance_delay_ms"):
            library.rd_kafka_mock_group_initial_rebalance_delay_ms(
                ctypes.c_void_p(self._cluster), _REBALANCE_DELAY_MS
            )
        for name, partitions in self._topics.items():
            self.create_topic(name, partitions)
        bootstraps = library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = bootstraps.decode()
        return self

    def create_topic(self, name: str, partitions: int) -> None:
        """One more topic. Raises RuntimeError when the broker isn't running or has it already."""
        if self._cluster is None:
            raise RuntimeError("the embedded broker isn't running; call start() first")
        code = self._library.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), partitions, self._brokers_count
        )
        if code:
            reason = self._library.rd_kafka_err2str(code).decode()
            raise RuntimeError(f"topic {name!r} with {partitions} partitions: {reason}")

    def set_down(self, *, is_down: bool, broker: int = 1) -> None:
        """Closes all of a broker's connections and refuses new ones, or lets them in again."""
        if self._cluster is None:
            raise RuntimeError("the embedded broker isn't running; call start() first")
        change = (
            self._library.rd_kafka_mock_broker_set_down
            if is_down
            else self._library.rd_kafka_mock_broker_set_up
        )
        change(self._cluster, broker)

    def stop(self) -> None:
        """Ends the broker; a second call does nothing."""
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._handle:
            self._library.rd_kafka_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _library() -> ctypes.CDLL:
    """The wheel's librdkafka with the calls used here typed.

    Looking a symbol up in the extension module also searches what it was linked against, on Linux and
    macOS alike, so this is the very library that the clients use, wherever the wheel put it.
    """
    extension = Path(confluent_kafka.cimpl.__file__)
    library = ctypes.CDLL(str(extension))
    if not hasattr(library, "rd_kafka_mock_cluster_new"):
        raise RuntimeError(
            f"{extension}: this confluent-kafka has no mock cluster; install a wheel from PyPI "
            "(2.6 or newer), or give the address of a real broker with --brokers"
        )
    pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, size]),
        "rd_kafka_new": (pointer, [number, pointer, text, size]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_err2str": (text, [number]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
