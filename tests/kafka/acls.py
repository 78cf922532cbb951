"""One line of an access list, as a test writes it."""

from dataclasses import dataclass

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)


@dataclass(frozen=True, kw_only=True)
class Acl:
    """Allows `user` one operation on one resource, or on all whose name begins so (`is_prefix`)."""

    user: str
    operation: str
    """READ, WRITE, DESCRIBE, CREATE, ALTER_CONFIGS, ..."""
    resource: str
    """TOPIC, GROUP, TRANSACTIONAL_ID or CLUSTER."""
    name: str = "kafka-cluster"
    is_prefix: bool = False

    def binding(self) -> AclBinding:
        """As confluent-kafka's admin client takes it."""
        pattern = ResourcePatternType.PREFIXED if self.is_prefix else ResourcePatternType.LITERAL
        # librdkafka calls the cluster resource BROKER.
        kind = "BROKER" if self.resource == "CLUSTER" else self.resource
        return AclBinding(
            ResourceType[kind],
            self.name,
            pattern,
            f"User:{self.user}",
            "*",
            AclOperation[self.operation],
            AclPermissionType.ALLOW,
        )
