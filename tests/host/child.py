"""A service in a process of its own, for tests that end one: `python -m tests.host.child '{...}'`.

Prints a line when it is ready, then for each number in its input feeds itself a decision that lists
`pay-1`, of so many boundaries from now; or follows Kafka. Lives until it is told to end.
"""

import json
import resource
import signal
import sys
import threading
from pathlib import Path

from tests.host.feeding import SERVICE, now_ms, telling_to_end
from tidegate.client import Client
from tidegate.client.decider import Decider
from tidegate.client.terminate import MARGIN_MS, Terminator
from tidegate.client.testing import FeedClient


def main() -> None:
    """Arguments as JSON: path, size, opt_in, file_bytes_max, dies, config, topic_prefix."""
    given = json.loads(sys.argv[1])
    feed = FeedClient(now_ms=now_ms)
    client: Decider = feed
    if given.get("config"):
        client = Client(given["config"], topic_prefix=given["topic_prefix"])
    if given.get("file_bytes_max"):
        # The kernel ends it in the middle of a write; without "dies" the write fails instead.
        limit = given["file_bytes_max"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if given.get("dies"):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if given.get("opt_in", True):
        Terminator(
            client,
            service=SERVICE,
            instance="pay-1",
            snapshot=lambda: b"n" * given["size"],
            path=Path(given["path"]),
        )
    if isinstance(client, Client):
        client.wait_ready(30)
        print("ready", flush=True)
        threading.Event().wait()
    print("ready", flush=True)
    for line in sys.stdin:
        boundary = now_ms() // 500 + int(line)
        since_ms = now_ms() + 2 * MARGIN_MS  # as if it had lived for a while
        feed.publish(telling_to_end("pay-1", since_ms=since_ms, boundary=boundary))
        print("lives", flush=True)


if __name__ == "__main__":
    main()
