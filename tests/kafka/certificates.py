"""A throw-away certificate authority, by openssl. Kafka reads PEM, so no Java key store is needed."""

import subprocess
from pathlib import Path

from tests.kafka.jars import program
from tests.kafka.problem import KafkaTestError

HOST = "127.0.0.1"
DAYS = "825"
CONFIG = f"""\
[req]
distinguished_name = name
prompt = no
[name]
CN = given by -subj
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:{HOST}
"""


def make_authority(folder: Path) -> None:
    """Write ca.pem and ca.key into a new folder whose mode guards the keys, which have no password."""
    folder.mkdir(mode=0o700)
    (folder / "openssl.cnf").write_text(CONFIG)
    to_files = ["-keyout", "ca.key", "-out", "ca.pem", "-days", DAYS]
    _openssl(folder, "req", "-x509", *_new_key("tidegate-tests-ca"), *to_files, "-extensions", "ca")


def make_certificate(folder: Path, name: str) -> None:
    """Write NAME.key, NAME.pem and, as Kafka wants it, both in one as NAME.keystore.pem."""
    to_files = ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
    _openssl(folder, "req", *_new_key(name), *to_files)
    authority = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS]
    extensions = ["-extfile", "openssl.cnf", "-extensions", "leaf"]
    request = ["-in", f"{name}.csr", "-out", f"{name}.pem"]
    _openssl(folder, "x509", "-req", *request, *authority, *extensions)
    key, certificate = ((folder / f"{name}.{kind}").read_text() for kind in ("key", "pem"))
    (folder / f"{name}.keystore.pem").write_text(key + certificate)


def _new_key(name: str) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    return ["-config", "openssl.cnf", *curve, "-subj", f"/CN={name}"]


def _openssl(folder: Path, *arguments: str) -> None:
    openssl = program("openssl", "install it; secured test brokers need it")
    done = subprocess.run(
        [openssl, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise KafkaTestError(f"openssl {arguments[0]} failed:\n{done.stderr.strip()}")
