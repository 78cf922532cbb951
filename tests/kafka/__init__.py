"""A real Apache Kafka for tests and benchmarks, run from the jars on Maven Central.

Needs Java 17+, Maven for the first run, and openssl for the secured kinds; no root, no container.
It never outlives the process that started it, however that one ends.
"""

from tests.kafka.acls import Acl
from tests.kafka.cluster import KafkaCluster
from tests.kafka.problem import KafkaMissingError, KafkaTestError
from tests.kafka.settings import Security

__all__ = ["Acl", "KafkaCluster", "KafkaMissingError", "KafkaTestError", "Security"]
