"""What goes into server.properties, and what each kind of client needs to get in."""

from enum import StrEnum
from pathlib import Path

from tests.kafka.broker import Broker
from tests.kafka.certificates import HOST
from tests.kafka.problem import KafkaTestError

SUPER_USER = "admin"
SCRAM = "SCRAM-SHA-256"
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required"


class Security(StrEnum):
    """How clients reach the brokers."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    """Encrypted; anybody may do anything."""
    MTLS = "mtls"
    """Client certificates and ACLs."""
    SCRAM = "scram"
    """Encrypted, users with passwords (SCRAM-SHA-256) and ACLs."""

    @property
    def has_users(self) -> bool:
        """Whether clients say who they are, and ACLs hold."""
        return self in (Security.MTLS, Security.SCRAM)

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        return {"plaintext": "PLAINTEXT", "scram": "SASL_SSL"}.get(self.value, "SSL")


def server_settings(
    broker: Broker, brokers: list[Broker], security: Security, tls: Path
) -> dict[str, str]:
    """server.properties, for tests: small internal topics, no topic made by accident, no waiting."""
    count, min_isr = str(len(brokers)), str(min(2, len(brokers)))
    inner = "PLAINTEXT" if security is Security.PLAINTEXT else "SSL"
    at = {name: f"{name.upper()}://{HOST}:{port}" for name, port in broker.ports.items()}
    if security is Security.PLAINTEXT:
        del at["internal"]  # brokers talk to each other where clients do
    advertised = ",".join(address for name, address in at.items() if name != "controller")
    voters = ",".join(f"{b.number}@{HOST}:{b.ports['controller']}" for b in brokers)
    map_ = f"CLIENT:{security.protocol},CONTROLLER:{inner},INTERNAL:{inner}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(broker.number),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(at.values()),
        "advertised.listeners": advertised,
        "listener.security.protocol.map": map_,
        "inter.broker.listener.name": "INTERNAL" if "internal" in at else "CLIENT",
        "log.dirs": str(broker.folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": count,
        "min.insync.replicas": min_isr,
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A dead broker is missed after this time, and its own restart is let in no sooner. Kafka's
        # default is 9 s; at 3 s, brokers that were just slow to start on an overloaded machine
        # were taken for dead.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
    }
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        settings |= {f"{topic}.num.partitions": "4", f"{topic}.replication.factor": count}
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        settings[f"{topic}.min.isr"] = min_isr
    if security is not Security.PLAINTEXT:
        settings |= _tls_server_settings(security, tls)
    if security is Security.SCRAM:
        settings["sasl.enabled.mechanisms"] = SCRAM
        settings[f"listener.name.client.{SCRAM.lower()}.sasl.jaas.config"] = f"{SCRAM_MODULE};"
    if security.has_users:
        settings |= {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:broker;User:{SUPER_USER}",
        }
    return settings


def client_settings(
    bootstrap: str, security: Security, tls: Path, users: dict[str, str], user: str
) -> dict[str, str]:
    """In librdkafka's names, that is for confluent-kafka and a --kafka-config file."""
    settings = {"bootstrap.servers": bootstrap}
    if security is not Security.PLAINTEXT:
        settings["security.protocol"] = security.protocol
        settings["ssl.ca.location"] = str(tls / "ca.pem")
    if security.has_users and user not in users:
        raise KafkaTestError(f"the cluster has no user {user!r}, only {', '.join(users)}")
    if security is Security.MTLS:
        settings["ssl.certificate.location"] = str(tls / f"{user}.pem")
        settings["ssl.key.location"] = str(tls / f"{user}.key")
    if security is Security.SCRAM:
        settings["sasl.mechanism"] = SCRAM
        settings["sasl.username"] = user
        settings["sasl.password"] = users[user]
    return settings


def tool_settings(security: Security, tls: Path, users: dict[str, str]) -> dict[str, str]:
    """For Kafka's own command-line tools, as the super user."""
    settings = {"security.protocol": security.protocol}
    if security is not Security.PLAINTEXT:
        settings["ssl.truststore.type"] = "PEM"
        settings["ssl.truststore.location"] = str(tls / "ca.pem")
    if security is Security.MTLS:
        settings["ssl.keystore.type"] = "PEM"
        settings["ssl.keystore.location"] = str(tls / f"{SUPER_USER}.keystore.pem")
    if security is Security.SCRAM:
        login = f'username="{SUPER_USER}" password="{users[SUPER_USER]}"'
        settings["sasl.mechanism"] = SCRAM
        settings["sasl.jaas.config"] = f"{SCRAM_MODULE} {login};"
    return settings


def write_properties(path: Path, settings: dict[str, str]) -> None:
    """Java's and librdkafka's files read alike."""
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def _tls_server_settings(security: Security, tls: Path) -> dict[str, str]:
    client_auth = "required" if security is Security.MTLS else "none"
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(tls / "broker.keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(tls / "ca.pem"),
        # SCRAM can't be used between controllers, so brokers know each other by certificate.
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.internal.ssl.client.auth": "required",
        "listener.name.client.ssl.client.auth": client_auth,
        # The certificate CN=NAME is User:NAME: ACLs read the same for certificates and for SCRAM.
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    }
