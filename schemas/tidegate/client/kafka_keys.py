"""Which of librdkafka's settings pass through a Kafka settings file, and which don't, with the reason.

A closed list, because a misspelt security setting must be an error with a suggestion, not a line
without effect.
"""

__all__ = ["FROM_JAVA", "KNOWN", "OURS", "SECRET"]

SECRET = frozenset(
    {
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    }
)

KNOWN = SECRET | frozenset(
    {
        "allow.auto.create.topics",
        "api.version.request.timeout.ms",
        "bootstrap.servers",
        "broker.address.family",
        "broker.address.ttl",
        "client.dns.lookup",
        "client.id",
        "client.rack",
        "connections.max.idle.ms",
        "debug",
        "enable.ssl.certificate.verification",
        "log_level",
        "metadata.max.age.ms",
        "metadata.recovery.strategy",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.kerberos.keytab",
        "sasl.kerberos.kinit.cmd",
        "sasl.kerberos.min.time.before.relogin",
        "sasl.kerberos.principal",
        "sasl.kerberos.service.name",
        "sasl.mechanism",
        "sasl.oauthbearer.client.id",
        "sasl.oauthbearer.extensions",
        "sasl.oauthbearer.method",
        "sasl.oauthbearer.scope",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.username",
        "security.protocol",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.nagle.disable",
        "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes",
        "socket.timeout.ms",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.cipher.suites",
        "ssl.crl.location",
        "ssl.curves.list",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.keystore.location",
        "ssl.providers",
        "ssl.sigalgs.list",
        "statistics.interval.ms",
    }
)

OURS = {
    "acks": "all, so that nothing acknowledged is lost",
    "auto.offset.reset": "each role has its own rule where to begin",
    "compression.type": "chosen for each topic",
    "enable.auto.commit": "offsets are committed once the work is delivered",
    "enable.idempotence": "on, so that a retry does not write twice",
    "group.id": "made from --topic-prefix",
    "partitioner": "murmur2, as Faust and Java have it",
    "partition.assignment.strategy": "what the workers are tested with",
    "transactional.id": "not used",
}
"""Key to why it is not the user's to set."""

FROM_JAVA = {
    "sasl.jaas.config": "give sasl.username and sasl.password instead",
    "ssl.keystore.type": "give ssl.certificate.location and ssl.key.location (PEM) instead",
    "ssl.truststore.certificates": "give ssl.ca.pem instead",
    "ssl.truststore.location": "give ssl.ca.location (PEM) instead",
    "ssl.truststore.password": "give ssl.ca.location (PEM, without a password) instead",
    "ssl.truststore.type": "give ssl.ca.location (PEM) instead",
}
"""Key to what librdkafka has in its place."""
