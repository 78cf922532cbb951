"""Kafka's jars: fetched once by Maven into a cache folder, and the command that runs a class of them."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.kafka.problem import KafkaMissingError, KafkaTestError

HERE = Path(__file__).resolve().parent
JAVA_MIN = 17
INSTALL_TIMEOUT_S = 600


def home() -> Path:
    """Where the jars are kept between runs: $TIDEGATE_KAFKA_HOME, or the user's cache folder."""
    if chosen := os.environ.get("TIDEGATE_KAFKA_HOME"):
        return Path(chosen).expanduser().resolve()
    cache_root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_root) / "tidegate" / "kafka"


def install() -> Path:
    """The folder of jars, fetched if need be: it appears whole, by a rename, so no run sees half."""
    check_java()
    folder = _jars_folder()
    if folder.is_dir():
        return folder
    maven = program("mvn", "install Maven 3.6 or later (Debian: apt-get install maven)")
    with _locked(home() / "install.lock"):
        if not folder.is_dir():  # another process may have done it while this one waited
            with tempfile.TemporaryDirectory(dir=home(), prefix="installing-") as parts:
                _copy_jars(maven, Path(parts, "jars"))
                Path(parts, "jars").rename(folder)
    return folder


def java_command(main_class: str, *, log_conf: str, heap_mb: int) -> list[str]:
    """The command that runs `main_class`; $TIDEGATE_KAFKA_JVM adds options for the JVM."""
    # The client compiler and the serial collector start a broker in half the time on two cores;
    # what they cost at full load is no matter for tests.
    options = os.environ.get("TIDEGATE_KAFKA_JVM", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    return [
        _java(),
        f"-Xmx{heap_mb}m",
        *options.split(),
        f"-Dlog4j2.configurationFile={HERE / log_conf}",
        "-cp",
        str(install() / "*"),
        main_class,
    ]


def program(name: str, remedy: str) -> str:
    """The path of a program, or KafkaMissingError with the remedy."""
    found = shutil.which(name)
    if not found:
        raise KafkaMissingError(f"`{name}` is not on the PATH; {remedy}")
    return found


@cache
def check_java() -> None:
    """Raise KafkaMissingError where Java is missing or too old for Kafka 4."""
    java = _java()
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = answer.split('"')[1] if '"' in answer else "of unknown version"
    major = version.split(".")[0].split("-")[0]
    if not major.isdigit() or int(major) < JAVA_MIN:
        raise KafkaMissingError(f"{java} is Java {version}; Kafka needs {JAVA_MIN} or later")


def _java() -> str:
    java_home = os.environ.get("JAVA_HOME")
    if not java_home:
        remedy = f"install a Java runtime, version {JAVA_MIN} or later, or set JAVA_HOME"
        return program("java", remedy)
    path = Path(java_home, "bin", "java")
    if not path.exists():
        raise KafkaMissingError(
            f"JAVA_HOME is {java_home}, which has no bin/java; correct or unset it"
        )
    return str(path)


def _jars_folder() -> Path:
    """Named after the text of pom.xml: a changed pom.xml is another install."""
    return home() / f"jars-{hashlib.sha256((HERE / 'pom.xml').read_bytes()).hexdigest()[:12]}"


def _copy_jars(maven: str, folder: Path) -> None:
    command = [maven, "-B", "-q", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last_lines = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise KafkaTestError(f"Maven could not fetch Kafka's jars; its last lines:\n{last_lines}")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go of the lock when its owner dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
