"""librdkafka's connection settings as Faust and aiokafka take them.

One file configures both libraries: ingest uses confluent-kafka, the agents use aiokafka. What can't
be translated is refused here, at start, instead of connecting less safely than was asked for.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

from faust.auth import Credentials, SASLCredentials, SSLCredentials

from tidegate.streams.errors import UsageError

__all__ = ["broker_credentials", "broker_url"]

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
UNTRANSLATABLE = (
    "ssl.certificate.pem",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.providers",
    "ssl.sigalgs.list",
)
"""Python's ssl takes certificates and keys from files only, and has no way to set the others."""


def broker_url(config: Mapping[str, str]) -> str:
    """`kafka://host:port;kafka://host:port`, Faust's `broker` setting."""
    servers = config["bootstrap.servers"].split(",")
    return ";".join(f"kafka://{server.strip()}" for server in servers)


def broker_credentials(config: Mapping[str, str]) -> Credentials | None:
    """Faust's `broker_credentials` setting; None for PLAINTEXT.

    Raises UsageError for what aiokafka can't do.
    """
    protocol = config.get("security.protocol", "plaintext").lower()
    context = _ssl_context(config) if protocol.endswith("ssl") else None
    if protocol.startswith("sasl"):
        mechanism = config["sasl.mechanism"].upper()
        if mechanism not in MECHANISMS:
            raise UsageError(
                f"sasl.mechanism: {mechanism} is not supported by workers; use one of "
                f"{', '.join(MECHANISMS)}, or client certificates (security.protocol=SSL)"
            )
        return SASLCredentials(
            mechanism=mechanism,
            username=config["sasl.username"],
            password=config["sasl.password"],
            ssl_context=context,
        )
    return SSLCredentials(context) if context is not None else None


def _ssl_context(config: Mapping[str, str]) -> ssl.SSLContext:
    for key in UNTRANSLATABLE:
        if config.get(key):
            raise UsageError(
                f"{key}: is not supported by workers; use PEM files: ssl.ca.location, "
                "ssl.certificate.location, ssl.key.location"
            )
    # Not create_default_context: it would trust the system's authorities beside the given one.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load(context, config)
    except (OSError, ssl.SSLError) as problem:
        # OpenSSL's texts name neither file nor key.
        files = [config[key] for key in config if key.startswith("ssl.") and "location" in key]
        raise UsageError(
            f"{', '.join(files)}: can't be used for TLS ({problem}); expected PEM, the key fitting "
            "its certificate and ssl.key.password"
        ) from problem
    if config.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if config.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, config: Mapping[str, str]) -> None:
    location = config.get("ssl.ca.location", "")
    if location and location != "probe":
        is_folder = Path(location).is_dir()
        context.load_verify_locations(
            cafile=None if is_folder else location, capath=location if is_folder else None
        )
    if pem := config.get("ssl.ca.pem"):
        context.load_verify_locations(cadata=pem)
    elif not location or location == "probe":
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate := config.get("ssl.certificate.location"):
        password = config.get("ssl.key.password", "")  # "" keeps OpenSSL from asking the terminal
        context.load_cert_chain(certificate, config.get("ssl.key.location"), password)
    if ciphers := config.get("ssl.cipher.suites"):
        context.set_ciphers(ciphers)
