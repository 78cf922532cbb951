"""librdkafka's settings as Faust takes them, and what is refused rather than weakened."""

import shutil
import ssl
from pathlib import Path

import pytest
from faust.auth import SASLCredentials, SSLCredentials

from tests.kafka.certificates import make_authority, make_certificate
from tidegate.streams.errors import UsageError
from tidegate.streams.faust_security import broker_credentials, broker_url

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

SCRAM = {
    "bootstrap.servers": "a:1, b:2",
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-256",
    "sasl.username": "evaluate",
    "sasl.password": "hush",
}


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    make_authority(folder)
    make_certificate(folder, "evaluate")
    return folder


def test_brokers_become_urls() -> None:
    assert broker_url(SCRAM) == "kafka://a:1;kafka://b:2"


def test_plaintext_has_no_credentials() -> None:
    assert broker_credentials({"bootstrap.servers": "a:1"}) is None


def test_scram_keeps_user_mechanism_and_the_given_authority_only(tls: Path) -> None:
    credentials = broker_credentials(SCRAM | {"ssl.ca.location": str(tls / "ca.pem")})
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol.value == "SASL_SSL"
    assert (credentials.username, credentials.password) == ("evaluate", "hush")
    assert credentials.mechanism.value == "SCRAM-SHA-256"
    context = credentials.ssl_context
    assert context is not None
    assert context.cert_store_stats()["x509_ca"] == 1
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert "hush" not in repr(credentials)


def test_mtls_loads_the_certificate_and_inline_authorities(tls: Path) -> None:
    config = {
        "bootstrap.servers": "a:1",
        "security.protocol": "ssl",
        "ssl.ca.pem": (tls / "ca.pem").read_text(),
        "ssl.certificate.location": str(tls / "evaluate.pem"),
        "ssl.key.location": str(tls / "evaluate.key"),
    }
    credentials = broker_credentials(config)
    assert isinstance(credentials, SSLCredentials)
    assert credentials.context.cert_store_stats()["x509_ca"] == 1


def test_checks_are_lifted_only_where_asked_for() -> None:
    named = broker_credentials(SCRAM | {"ssl.endpoint.identification.algorithm": "none"})
    unverified = broker_credentials(SCRAM | {"enable.ssl.certificate.verification": "false"})
    assert isinstance(named, SASLCredentials)
    assert isinstance(unverified, SASLCredentials)
    assert named.ssl_context is not None
    assert unverified.ssl_context is not None
    assert not named.ssl_context.check_hostname
    assert named.ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert unverified.ssl_context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"sasl.mechanism": "GSSAPI"}, "GSSAPI is not supported by workers; use one of PLAIN"),
        ({"ssl.keystore.location": "k.p12"}, "ssl.keystore.location: is not supported by workers"),
        ({"ssl.ca.location": __file__}, "can't be used for TLS"),
    ],
)
def test_what_aiokafka_cannot_do_is_refused(more: dict[str, str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        broker_credentials(SCRAM | more)
