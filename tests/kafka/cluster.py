"""A cluster: one or three brokers, how they are secured, and the folder that holds all of it."""

import base64
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from confluent_kafka.admin import AdminClient, NewTopic

from tests.kafka.acls import Acl
from tests.kafka.broker import Broker, free_ports
from tests.kafka.certificates import make_authority, make_certificate
from tests.kafka.guard import Guard
from tests.kafka.jars import java_command
from tests.kafka.problem import KafkaTestError
from tests.kafka.settings import (
    SCRAM,
    SUPER_USER,
    Security,
    client_settings,
    server_settings,
    tool_settings,
    write_properties,
)

START_TIMEOUT_S = 120.0
ADMIN_TIMEOUT_S = 30.0
TOOL_TIMEOUT_S = 60
TOOLS = {
    "acls": "org.apache.kafka.tools.AclCommand",
    "configs": "kafka.admin.ConfigCommand",
    "dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "topics": "org.apache.kafka.tools.TopicCommand",
}


class KafkaCluster:
    """Made and started by the constructor; `close()` (or `with`) ends it and deletes its data.

    `users` are names to passwords beside the super user `admin`; a broker's number counts from 1.
    """

    def __init__(
        self,
        folder: Path,
        *,
        brokers_count: int = 1,
        security: Security = Security.PLAINTEXT,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.security = security
        self.users = {SUPER_USER: "admin-secret", **(users or {})}
        self._tls = self.folder / "tls"
        ports = free_ports(3 * brokers_count)
        names = ("client", "controller", "internal")
        self.brokers = [
            Broker(
                self.folder / f"broker-{i + 1}",
                i + 1,
                dict(zip(names, ports[3 * i : 3 * i + 3], strict=True)),
            )
            for i in range(brokers_count)
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        if security is not Security.PLAINTEXT:
            make_authority(self._tls)
            for name in ["broker", *(self.users if security is Security.MTLS else ())]:
                make_certificate(self._tls, name)
        for broker in self.brokers:
            broker.folder.mkdir()
            properties = server_settings(broker, self.brokers, security, self._tls)
            write_properties(broker.properties, properties | dict(settings or {}))
        self._format()
        self._guard = Guard(self.folder)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    # ---- reaching it ----

    @property
    def bootstrap(self) -> str:
        """`bootstrap.servers` of all brokers, running or not; restarts keep the ports."""
        return ",".join(broker.address for broker in self.brokers)

    def client_config(self, user: str = SUPER_USER, **more: str) -> dict[str, str]:
        """Settings for confluent-kafka; `more` with underscores for dots (`group_id="x"`)."""
        settings = client_settings(self.bootstrap, self.security, self._tls, self.users, user)
        return settings | {key.replace("_", "."): value for key, value in more.items()}

    def config_file(self, user: str = SUPER_USER) -> Path:
        """The same as a file for --kafka-config."""
        path = self.folder / f"client-{user}.properties"
        write_properties(path, self.client_config(user))
        path.chmod(0o600)
        return path

    def admin(self) -> AdminClient:
        """An admin client of the super user."""
        return AdminClient({**self.client_config()})

    # ---- faults ----

    def start(self, broker: int | None = None, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start what is down (or this one broker), on the same data and ports, and wait for it."""
        command = java_command("kafka.Kafka", log_conf="log4j2.properties", heap_mb=512)
        launched = [b for b in self._chosen(broker) if not b.is_running]
        for one in launched:
            one.launch(command)
        until_s = time.monotonic() + timeout_s
        for one in launched:
            while not one.is_ready():
                problem = "" if one.is_running else "ended"
                if time.monotonic() > until_s:
                    problem = f"was not ready after {timeout_s:.0f} s"
                if problem:
                    tail = one.log_tail()
                    raise KafkaTestError(f"broker {one.number} {problem}; its log:\n{tail}")
                time.sleep(0.05)

    def stop(self, broker: int | None = None) -> None:
        """End in good order (SIGTERM); the data stays."""
        chosen = self._chosen(broker)
        for one in chosen:  # all at once: the last controllers of a quorum need each other
            one.resume()
            one.ask_to_stop()
        for one in chosen:
            one.stop()

    def kill(self, broker: int | None = None) -> None:
        """End on the spot (SIGKILL); the data stays."""
        for one in self._chosen(broker):
            one.kill()

    def pause(self, broker: int | None = None) -> None:
        """Freeze (SIGSTOP): connections stay open and nothing answers."""
        for one in self._chosen(broker):
            one.pause()

    def resume(self, broker: int | None = None) -> None:
        """Go on after `pause`."""
        for one in self._chosen(broker):
            one.resume()

    def fill_disk(self, broker: int = 1) -> None:
        """Let this broker's disk be full: its next write fails, and it halts as Kafka then does.

        Returns at once; `wait_ended` waits for the halt, `start` begins anew with room again.
        """
        self._chosen(broker)[0].limit_file_size(1)

    def wait_ended(self, broker: int = 1, *, timeout_s: float = 30.0) -> int:
        """Exit status of a broker that ended by itself."""
        return self._chosen(broker)[0].wait_ended(timeout_s)

    def throttle_producers(self, bytes_per_s: int | None) -> None:
        """A client quota for every producer; None takes it away."""
        change = ["--add-config", f"producer_byte_rate={bytes_per_s}"]
        if bytes_per_s is None:
            change = ["--delete-config", "producer_byte_rate"]
        self.tool("configs", "--alter", "--entity-type", "clients", "--entity-default", *change)

    # ---- topics and access ----

    def create_topic(
        self, name: str, partitions_count: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic, replicated on all brokers, and wait until it has leaders."""
        replicas = len(self.brokers)
        topic = NewTopic(name, partitions_count, replicas, config=dict(config or {}))
        admin = self.admin()
        admin.create_topics([topic])[name].result(ADMIN_TIMEOUT_S)
        self._wait_topic(admin, name, partitions_count)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone, so that one of the same name can be made."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(ADMIN_TIMEOUT_S)
        self._wait_topic(admin, name, 0)

    def allow(self, acls: Iterable[Acl]) -> None:
        """Add these lines to the access list (no effect without users)."""
        bindings = [acl.binding() for acl in acls]
        if not self.security.has_users or not bindings:
            return
        admin = self.admin()  # kept: a client that is collected takes its answers with it
        for done in admin.create_acls(bindings).values():
            done.result(ADMIN_TIMEOUT_S)

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's own tools (see TOOLS) as the super user; returns what it printed."""
        command = java_command(TOOLS[name], log_conf="log4j2-tools.properties", heap_mb=256)
        if name != "dump-log":
            settings = self.folder / "tool.properties"
            write_properties(settings, tool_settings(self.security, self._tls, self.users))
            command += ["--bootstrap-server", self.bootstrap, "--command-config", str(settings)]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaTestError(f"Kafka's {name} tool failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    # ---- the end ----

    def close(self) -> None:
        """Kill the brokers and delete their data; their logs stay for whoever looks into a failure."""
        for broker in self.brokers:
            broker.kill()
        self._guard.end()
        for broker in self.brokers:
            shutil.rmtree(broker.folder / "data", ignore_errors=True)

    def __enter__(self) -> "KafkaCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- inside ----

    def _chosen(self, number: int | None) -> list[Broker]:
        found = [broker for broker in self.brokers if number in (None, broker.number)]
        if not found:
            raise KafkaTestError(f"brokers are 1 to {len(self.brokers)}, not {number}")
        return found

    def _format(self) -> None:
        cluster_id = cluster_id_of(uuid.uuid4().bytes)
        command = java_command(
            "kafka.tools.StorageTool", log_conf="log4j2-tools.properties", heap_mb=256
        )
        command += ["format", "--cluster-id", cluster_id]
        if self.security is Security.SCRAM:
            for user, password in self.users.items():
                command += ["--add-scram", f'{SCRAM}=[name="{user}",password="{password}"]']
        runs = [
            subprocess.Popen(
                [*command, "--config", str(broker.properties)],
                stdin=subprocess.DEVNULL,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for broker in self.brokers
        ]
        outputs = [run.communicate()[0] for run in runs]
        for run, output in zip(runs, outputs, strict=True):
            if run.returncode != 0:
                raise KafkaTestError(f"Kafka could not format its storage:\n{output.strip()}")

    @staticmethod
    def _wait_topic(admin: AdminClient, name: str, partitions_count: int) -> None:
        """Until metadata shows so many partitions with leaders (0: until the topic is gone)."""
        until_s = time.monotonic() + ADMIN_TIMEOUT_S
        while time.monotonic() < until_s:
            topic = admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics.get(name)
            if topic is None:
                leaders_count = 0
            else:
                leaders_count = sum(p.leader >= 0 for p in topic.partitions.values())
            if leaders_count == partitions_count:
                return
            time.sleep(0.05)
        raise KafkaTestError(
            f"topic {name} did not reach {partitions_count} partitions with leaders"
        )


def cluster_id_of(random_bytes: bytes) -> str:
    """A cluster id that never begins with `-`: Kafka's tool takes one that does for an option, which
    was one start in 64.
    """
    text = base64.urlsafe_b64encode(random_bytes).decode().rstrip("=")
    return text.replace("-", "A")


def is_ci() -> bool:
    """In CI a missing broker is a failure: a skipped test proves nothing."""
    return os.environ.get("CI", "").lower() == "true"
