"""Host reporter (extra `tidegate-client[host]`): what the kernel says of a host, as OTLP metrics on Kafka."""

from tidegate.client.host.cgroup import Cgroup, own_cgroup, pod_cgroup
from tidegate.client.host.message import encode_reading
from tidegate.client.host.reading import HostReading, read_host
from tidegate.client.host.reporter import HostReporter, SentReadings

__all__ = [
    "Cgroup",
    "HostReading",
    "HostReporter",
    "SentReadings",
    "encode_reading",
    "own_cgroup",
    "pod_cgroup",
    "read_host",
]
