"""Running commands against a broker, in the test's own process."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.kafka import KafkaCluster
from tests.streams.live import make_topics
from tidegate.schemas.topics import Topics
from tidegate.streams.cli import main


@dataclass(frozen=True)
class Told:
    """What a command said."""

    status: int
    out: str
    err: str


def run(*arguments: str) -> Told:
    """`tidegate ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as ended:  # --help
            status = int(str(ended.code or 0))
    return Told(status, out.getvalue(), err.getvalue())


class Kafka:
    """The topics of one test; `run` names the broker."""

    def __init__(
        self, cluster: KafkaCluster, prefix: str, *, leave_out: tuple[str, ...] = ()
    ) -> None:
        self.config, self.topics = cluster.client_config(), Topics(prefix=prefix)
        names = tuple(getattr(self.topics, name) for name in leave_out)
        make_topics(self.config, self.topics, spans=1, partials=2, leave_out=names)

    def run(self, *arguments: str) -> Told:
        brokers = ("--brokers", self.config["bootstrap.servers"])
        return run(*arguments, *brokers, "--topic-prefix", self.topics.prefix)

    def list(self, command: str) -> dict[str, Any]:
        """`override list --json`, `silence list --json`."""
        told = self.run(command, "list", "--json")
        assert told.status == 0, told.err
        return dict(msgspec.json.decode(told.out))


def ask_ok(kafka: Kafka, *arguments: str, command: str = "override") -> Told:
    """A command that must succeed."""
    told = kafka.run(command, *arguments)
    assert told.status == 0, told.err
    return told
