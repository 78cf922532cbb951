"""Made-up traffic with facts in between, through the real evaluator; and its log fed again in other ways."""

from collections.abc import Sequence

import numpy as np

from tests.blast_radius.driving import BASE, Load, Run
from tests.exactness.driving import GRACE_MS, LogRecord, Published, published_of
from tests.goldens.incidents import BASE_MS
from tidegate.rules import window_kernel as kernel
from tidegate.rules.evaluator import Evaluator
from tidegate.rules.outputs import Outputs
from tidegate.rules.policy import Policy, load_policy
from tidegate.rules.standing import Snapshot
from tidegate.schemas.cells import BUCKET_MS
from tidegate.schemas.control import ControlEntry, ControlRecord, PolicyPush, encode_control
from tidegate.schemas.facts import Fact, Loop
from tidegate.schemas.partials import encode_aside

__all__ = ["Learning", "cut_everywhere", "fact", "fed", "scopes_at"]


def fact(target: str, *callees: str, second: float = 0, caller: str = "shop") -> Fact:
    """As pairing sends it, `second` being when the newest pair was seen."""
    return Fact(caller, target, sorted(callees), BASE_MS + round(second * 1000), 3)


class Learning(Run):
    """A run that learns who answers."""

    def __init__(self, policy: Policy | None = None, *, sources_count: int = 1) -> None:
        super().__init__(policy, sources_count=sources_count)
        self._listeners: list[list[Outputs]] = []

    def hold(self, seconds: float, *loads: Load) -> "Learning":
        super().hold(seconds, *loads)
        return self

    def learn(self, *facts: Fact, loops: Sequence[Loop] = ()) -> None:
        """Heard at the next boundary."""
        value = encode_aside(partitions_count=1, facts=facts, loops=loops)
        self.log.append(LogRecord(value, BASE_MS + self.half * BUCKET_MS + GRACE_MS))
        self._feed()

    def tell(self, target: str, *callees: str) -> None:
        """The same of `shop`, seen just now."""
        self.learn(fact(target, *callees, second=self.second))

    def ask(self, record: ControlRecord) -> None:
        """An operator's record, in force from the next boundary on."""
        content = b""
        if isinstance(record, PolicyPush):
            content = load_policy(record.text, where="pushed").content()
        boundary = BASE + self.half + 1
        entry = ControlEntry("control", self._asked, boundary, encode_control(record), content)
        self._asked += 1
        value = encode_aside(partitions_count=1, control=[entry])
        self.log.append(LogRecord(value, BASE_MS + self.half * BUCKET_MS + GRACE_MS))
        self._feed()

    def catch_up(self) -> None:
        """Feeds what was put into the log from outside."""
        self._feed()

    def listen(self) -> list[Outputs]:
        """Gets whatever comes out from here on."""
        heard: list[Outputs] = []
        self._listeners.append(heard)
        return heard

    def _keep(self, out: Outputs) -> None:
        super()._keep(out)
        for heard in self._listeners:
            heard.append(out)

    def level(self, scope: str) -> str:
        return self.at(scope).level

    def counts(self, service: str, target: str) -> tuple[list[int], list[int], list[int]]:
        """Requests by outcome: fast window, 30 s, five minutes."""
        windows, slot = self.evaluator.state.traffic.windows, self.slot(service, target)
        sums = (windows.fast, windows.window, windows.long)
        fast, window, long = (rows[slot, : kernel.OUTCOMES].tolist() for rows in sums)
        return fast, window, long

    def sketch(self, service: str, target: str) -> list[int]:
        """All durations of the 30 s window, by bin."""
        pool, slot = self.evaluator.state.traffic.windows.sketches, self.slot(service, target)
        total = np.zeros(pool.counts.shape[2], np.int64)
        for rows in (pool.ok_row, pool.failed_row):
            if rows[slot] >= 0:
                total += pool.counts[rows[slot], kernel.WINDOW]
        return total.tolist()

    def names(self) -> list[str]:
        """Scopes that a reader of the topic holds."""
        return scopes_at(self.published, BASE + self.half)


def scopes_at(published: Published, boundary: int) -> list[str]:
    """Scopes with a decision after a boundary, by what was published up to it; sorted."""
    held: dict[str, bool] = {}
    rows = (row for row in published if row[0] <= boundary)
    for _, key, value in sorted(rows, key=lambda row: (row[0], row[2] is None)):
        if key.startswith(("edge:", "service:")):
            held[key] = value is not None
    return sorted(scope for scope, is_held in held.items() if is_held)


def fed(
    log: Sequence[LogRecord], policy: Policy, snapshot: Snapshot | None = None
) -> tuple[Published, list[Snapshot], Evaluator]:
    """What a log gives from its beginning, or from a snapshot's start on."""
    start = 0
    evaluator = Evaluator(0, policy, partitions_count=1)
    if snapshot is not None:
        start = snapshot.start_offset
        evaluator = Evaluator.restore(
            0, policy, snapshot.manifest, snapshot.chunks, partitions_count=1
        )
    rows, snapshots = [], []
    for offset in range(start, len(log)):
        out = evaluator.feed(log[offset].value, offset=offset, append_ms=log[offset].append_ms)
        rows += published_of(out)
        if out.snapshot is not None:
            snapshots.append(out.snapshot)
    return rows, snapshots, evaluator


def cut_everywhere(run: Run, *, every: int = 1) -> None:
    """Restored from any of its snapshots, the rest of a run is the same to the byte, as are its later
    snapshots."""
    straight, snapshots = run.published, {s.boundary: s for s in run.snapshots}
    last = run.snapshots[-1].boundary
    for number, snapshot in enumerate(run.snapshots[:-1]):
        # Up to the next one: it is equal, so what follows is, by induction; some go on all the same.
        goes_on = number % every == 0
        until = len(run.log) if goes_on else run.snapshots[number + 1].offset + 1
        rows, taken, _ = fed(run.log[:until], run.policy, snapshot)
        assert taken
        for one in taken:
            assert one == snapshots[one.boundary], (snapshot.boundary - BASE, one.boundary - BASE)
        end = last if goes_on else taken[-1].boundary
        assert [r for r in rows if snapshot.boundary < r[0] <= end] == [
            r for r in straight if snapshot.boundary < r[0] <= end
        ]
