"""`tidegate override`, `silence` and `policy push|...`: arguments, exit statuses, and what they write."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.client.live import now_boundary, publish
from tests.control.asked import T_MS
from tests.control.commands import Kafka, Told, ask_ok, run
from tests.kafka import KafkaCluster
from tests.streams.live import log_of
from tidegate.client.testing import decision
from tidegate.schemas.control import (
    LatchReset,
    OverrideClear,
    OverrideSet,
    PolicyPush,
    Relearn,
    SilenceSet,
    decode_control,
)
from tidegate.schemas.decision import Decision, Override
from tidegate.streams import asking
from tidegate.streams.control_options import (
    duration_ms_of,
    duration_text,
    scope_of,
    time_ms_of,
)
from tidegate.streams.errors import UsageError

DAY_MS = 86_400_000
SET = ("override", "set", "payments", "closed", "--for", "10m", "--reason", "x")
NO_BROKER = ("--brokers", "127.0.0.1:1")


@pytest.fixture
def kafka(kafka_cluster: KafkaCluster, topic_prefix: str) -> Kafka:
    return Kafka(kafka_cluster, topic_prefix)


def asked(kafka: Kafka) -> list[Any]:
    """What stands on the control topic."""
    return [decode_control(r.value or b"") for r in log_of(kafka.config, kafka.topics.control)]


# ---- arguments ----


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90s", 90_000),
        ("10m", 600_000),
        ("2h", 7_200_000),
        ("1h30m", 5_400_000),
        ("7d", 7 * DAY_MS),
    ],
)
def test_a_duration_is_read_and_told_again(text: str, ms: int) -> None:
    assert duration_ms_of("--for", text, max_ms=7 * DAY_MS) == ms
    told = duration_text(ms).replace(" ", "")
    assert duration_ms_of("--for", told, max_ms=7 * DAY_MS) == ms


@pytest.mark.parametrize(
    "text", ["", "10", "m", "1.5h", "-5m", "10 m", "0s", "8d", "169h", "9" * 400 + "d", "1w", "٣m"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--for: .*give a time such as 90s"):
        duration_ms_of("--for", text, max_ms=7 * DAY_MS)


@pytest.mark.parametrize(
    ("text", "scope", "is_said"),
    [
        ("payments", "service:payments", True),
        ("pay-*", "service:pay-*", True),
        ("service:payments", "service:payments", False),
        ("edge:a->b", "edge:a->b", False),
        ("edge:*", "edge:*", False),
        ("inbound:a", "inbound:a", False),
        ("*", "*", False),
    ],
)
def test_a_plain_name_is_a_services_and_that_is_said(text: str, scope: str, is_said: bool) -> None:
    assert scope_of(text)[0] == scope
    assert bool(scope_of(text)[1]) is is_said


@pytest.mark.parametrize("text", ["", "edge:a", "edge:->b", "party:a", "override:*", "service:"])
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="scope"):
        scope_of(text)


def test_a_time_of_day_is_the_next_one_and_a_date_is_taken_as_it_is() -> None:
    whole = time_ms_of("--from", "2027-01-15T08:00:00+00:00", now_ms=T_MS)
    assert whole == T_MS  # which is that moment
    tomorrow = {time_ms_of("--from", f"{hour:02}:30", now_ms=T_MS) - T_MS for hour in range(24)}
    assert len(tomorrow) == 24
    assert all(0 <= ms <= DAY_MS for ms in tomorrow)
    for bad in ("noon", "25:00", "2026-13-01T00:00"):
        with pytest.raises(UsageError, match="is no time"):
            time_ms_of("--from", bad, now_ms=T_MS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["override"], "what should `tidegate override` do?"),
        (["override", "set"], "required"),
        (["override", "set", "a", "closed", "--for", "10m"], "--reason"),
        (["override", "set", "a", "closed", "--reason", "x"], "--for"),
        (["override", "set", "a", "ajar", "--for", "10m", "--reason", "x"], "'ajar' is no level"),
        (["override", "set", "a", "open", "--for", "soon", "--reason", "x"], "'soon' is no time"),
        (["override", "set", "a", "open", "--for", "8d", "--reason", "x"], "too long"),
        (["override", "set", "edge:a", "open", "--for", "1m", "--reason", "x"], "is no edge"),
        (["override", "set", "a", "open", "--for", "1m", "--reason", " ", *NO_BROKER], "reason"),
        (["override", "clear", "a"], "--reason"),
        (["override", "lock", "override:*", "--reason", "x"], "is none"),
        (["silence"], "what should `tidegate silence` do?"),
        (["silence", "set", "a", "--for", "1h"], "--reason"),
        (["silence", "set", "a", "--for", "1h", "--from", "noon", "--reason", "x"], "is no time"),
        (["silence", "set", "a", "--for", "9d", "--reason", "x"], "too long"),
        (["policy", "push", "default"], "--reason"),
        (["policy", "push", "no-such", "--reason", "x"], "no-such"),
        (["policy", "push", "default", "--grey", "0", "--reason", "x"], "is no share"),
        (["policy", "push", "default", "--grey", "110%", "--reason", "x"], "is no share"),
        (["policy", "push", "default", "--shadow", "--grey", "1%", "--reason", "x"], "--shadow"),
        (["policy", "rollback"], "--reason"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(arguments: list[str], says: str) -> None:
    told = run(*arguments)
    assert (told.status, told.out) == (2, ""), told.err
    assert told.err.splitlines()[-1].startswith("tidegate: ")
    assert says in told.err
    assert "Traceback" not in told.err


def test_a_broker_that_does_not_answer_is_a_failure() -> None:
    told = run(*SET, "--no-wait", *NO_BROKER)
    assert (told.status, told.out) == (1, "")
    assert "127.0.0.1:1: no Kafka broker answered" in told.err


@pytest.mark.parametrize(
    "command",
    [
        *(f"override {c}" for c in ("set", "clear", "list", "lock", "reset", "relearn")),
        *(f"silence {c}" for c in ("set", "clear", "list")),
        *(f"policy {c}" for c in ("push", "history", "rollback", "promote", "abort", "status")),
    ],
)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    told = run(*command.split(), "--help")
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith(f"usage: tidegate {command}")
    assert f"examples:\n  tidegate {command}" in told.out


# ---- what they write ----


def test_what_is_asked_stands_on_the_control_topic_and_is_told_as_an_audit_line(
    kafka: Kafka,
) -> None:
    told = ask_ok(kafka, *SET[1:], "--by", "kim", "--no-wait", "--json")
    line = msgspec.json.decode(told.out)
    assert (line["kind"], line["scope"], line["level"]) == (
        "override",
        "service:payments",
        "closed",
    )
    assert (line["by"], line["reason"], line["offset"]) == ("kim", "x", 0)
    assert 2_000 <= line["effective_ms"] - line["append_ms"] < 2_500
    assert line["effective_boundary"] * 500 == line["effective_ms"]
    assert "payments: taken as service:payments" in told.err
    ask_ok(kafka, "clear", "payments", "--reason", "y", "--no-wait")
    ask_ok(kafka, "lock", "edge:a->b", "--reason", "y", "--no-wait")
    ask_ok(kafka, "reset", "edge:a->*", "--reason", "y", "--no-wait")
    ask_ok(kafka, "relearn", "*", "--reason", "y")
    records = asked(kafka)
    kinds = [type(record) for record in records]
    assert kinds == [OverrideSet, OverrideClear, LatchReset, LatchReset, Relearn]
    assert [record.scope for record in records[1:]] == [
        "service:payments",
        "edge:a->b",
        "edge:a->*",
        "*",
    ]
    assert [record.action for record in records[2:4]] == ["lock", "reset"]
    assert records[1].by  # the login name
    assert records[0].until_ms - records[0].asked_ms == 600_000


def test_the_list_shows_what_is_in_force_newest_last(kafka: Kafka) -> None:
    assert kafka.list("override") == {"overrides": []}
    assert "no override is in force" in kafka.run("override", "list").out
    for scope, level in (("a", "open"), ("edge:a->b", "closed"), ("a", "degraded_1")):
        ask_ok(
            kafka, "set", scope, level, "--for", "5m", "--by", "kim", "--reason", "x", "--no-wait"
        )
    ask_ok(kafka, "set", "gone", "open", "--for", "1s", "--reason", "x", "--no-wait")
    ask_ok(kafka, "set", "ended", "open", "--for", "5m", "--reason", "x", "--no-wait")
    ask_ok(kafka, "clear", "ended", "--reason", "x", "--no-wait")
    rows = kafka.list("override")["overrides"]
    rows = [row for row in rows if row["scope"] != "service:gone"]  # its second may not be over
    assert [(row["scope"], row["level"], row["offset"]) for row in rows] == [
        ("edge:a->b", "closed", 1),
        ("service:a", "degraded_1", 2),
    ]
    text = kafka.run("override", "list").out
    assert "service:a  degraded_1  for 4m " in text
    assert "kim: x" in text


def test_a_silence_is_set_for_now_or_ahead_listed_and_cleared(kafka: Kafka) -> None:
    ask_ok(kafka, "set", "a", "--for", "2h", "--reason", "x", command="silence")
    ask_ok(kafka, "set", "*", "--from", "00:00", "--for", "1h", "--reason", "x", command="silence")
    now, ahead = asked(kafka)
    assert isinstance(now, SilenceSet)
    assert (now.from_ms, now.until_ms - now.from_ms) == (now.asked_ms, 7_200_000)
    assert 0 <= ahead.from_ms - ahead.asked_ms <= DAY_MS
    assert [row["scope"] for row in kafka.list("silence")["silences"]] == ["service:a", "*"]
    assert "service:a  for 1h 59m more" in kafka.run("silence", "list").out
    ask_ok(kafka, "clear", "a", "--reason", "x", command="silence")
    assert [row["scope"] for row in kafka.list("silence")["silences"]] == ["*"]


# ---- waiting for workers ----


@contextmanager
def playing_worker(kafka: Kafka, *before: Decision) -> Iterator[list[Decision]]:
    """Publishes `before`, and what the test puts into the list once something was asked."""
    publish(kafka.config, kafka.topics.decisions, *before)
    later: list[Decision] = []
    stop = threading.Event()

    def play() -> None:
        while not stop.is_set() and not log_of(kafka.config, kafka.topics.control):
            time.sleep(0.05)
        if not stop.is_set():
            publish(kafka.config, kafka.topics.decisions, *map(overridden_as_asked, later))

    def overridden_as_asked(said: Decision) -> Decision:
        record = asked(kafka)[0]
        if said.override is None or not isinstance(record, OverrideSet):
            return said
        told = Override(
            scope=record.scope,
            level=record.level,
            by=record.by,
            reason=record.reason,
            until_ms=record.until_ms,
        )
        return msgspec.structs.replace(said, override=told)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield later
    finally:
        stop.set()
        thread.join()


def overridden(scope: str, level: Any, *, by_scope: str = "service:payments") -> Decision:
    told = Override(scope=by_scope, level=level, by="kim", reason="x", until_ms=T_MS + DAY_MS)
    plain = decision(scope, level, boundary=now_boundary() + 4)
    return msgspec.structs.replace(plain, override=told)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of ten: nothing comes in this test."""
    monkeypatch.setattr(asking, "WAIT_S", 1.0)


def told_by(kafka: Kafka, *arguments: str) -> Told:
    return kafka.run("override", *arguments, "--reason", "x")


def test_an_override_is_confirmed_by_the_first_scope_that_shows_it(kafka: Kafka) -> None:
    there = decision("service:payments", "open", boundary=now_boundary())
    with playing_worker(kafka, there) as later:
        later.append(overridden("service:payments", "closed"))
        told = told_by(kafka, "set", "payments", "closed", "--for", "10m")
    assert told.status == 0, told.err
    assert "confirmed by service:payments" in told.out


@pytest.mark.usefixtures("short_wait")
@pytest.mark.parametrize(
    ("there", "says"),
    [
        ([], "no scope that matches has been decided: is the name right?"),
        (["service:payments"], "1 scopes match: is a worker"),
        (["service:other"], "no scope that matches has been decided"),
    ],
)
def test_an_override_that_no_worker_confirms_is_a_failure_that_says_so(
    kafka: Kafka, there: list[str], says: str
) -> None:
    boundary = now_boundary()
    publish(
        kafka.config,
        kafka.topics.decisions,
        *(decision(scope, "open", boundary=boundary) for scope in there),
    )
    told = told_by(kafka, "set", "payments", "closed", "--for", "10m")
    assert told.status == 1
    assert "no worker confirmed service:payments within" in told.err
    assert says in told.err
    assert "offset 0" in told.err
    assert len(asked(kafka)) == 1  # it stands there all the same


def test_the_end_of_an_override_is_confirmed_and_where_there_was_none_nothing_is_waited_for(
    kafka: Kafka,
) -> None:
    with playing_worker(kafka, overridden("service:payments", "closed")) as later:
        later.append(decision("service:payments", "open", boundary=now_boundary() + 9))
        told = told_by(kafka, "clear", "payments")
    assert told.status == 0, told.err
    assert "confirmed by service:payments" in told.out
    told = told_by(kafka, "clear", "never-set")
    assert told.status == 0, told.err
    assert "nothing to wait for" in told.out


@pytest.mark.usefixtures("short_wait")
def test_a_lock_is_confirmed_by_a_locked_scope_only(kafka: Kafka) -> None:
    boundary = now_boundary()
    with playing_worker(kafka, decision("edge:a->b", "open", boundary=boundary)) as later:
        later.append(decision("edge:a->b", "closed", boundary=boundary + 4))
        assert told_by(kafka, "lock", "edge:a->b").status == 1
    publish(
        kafka.config, kafka.topics.decisions, decision("edge:a->b", "locked", boundary=boundary + 9)
    )
    assert told_by(kafka, "lock", "edge:a->b").status == 0


# ---- policies ----


def test_a_policy_is_pushed_tried_promoted_and_rolled_back(kafka: Kafka, tmp_path: Path) -> None:
    files = {}
    for name in ("one", "two"):
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(f"name: {name}\nsettings:\n  mode: enforce\n")

    def policy(*arguments: str, status: int = 0) -> Told:
        told = kafka.run("policy", *arguments)
        assert told.status == status, told.err
        return told

    def in_force() -> tuple[str, str]:
        told = msgspec.json.decode(policy("status", "--json").out)
        names = [
            told[key] and told[key]["policy"].partition("@")[0] for key in ("in_force", "tried")
        ]
        return names[0] or "", names[1] or ""

    assert "none was pushed" in policy("status").out
    assert "no policy is tried" in policy("promote", "--reason", "x", status=1).err
    assert "no earlier policy" in policy("rollback", "--reason", "x", status=1).err
    told = policy("push", str(files["one"]), "--by", "kim", "--reason", "first")
    assert "one@" in told.out
    assert "(full)" in told.out
    policy("push", str(files["two"]), "--grey", "10%", "--services", "cart-*", "--reason", "x")
    assert in_force() == ("one", "two")
    assert "grey 10% and services cart-*" in policy("status").out
    policy("abort", "--reason", "x")
    assert in_force() == ("one", "")
    policy("push", str(files["two"]), "--shadow", "--reason", "x")
    policy("promote", "--reason", "x")
    assert in_force() == ("two", "")
    policy("rollback", "--reason", "too strict")
    assert in_force() == ("one", "")
    pushed = asked(kafka)[-1]
    assert isinstance(pushed, PolicyPush)
    assert pushed.text == files["one"].read_text()
    policy("rollback", "--to", "1", "--reason", "x")
    assert in_force() == ("two", "")
    assert "there is two@" in policy("rollback", "--to", "three", "--reason", "x", status=1).err
    rows = [msgspec.json.decode(line) for line in policy("history", "--json").out.splitlines()]
    assert [row["kind"] for row in rows] == [
        "policy",
        "policy",
        "abort",
        "policy",
        "promote",
        "policy",
        "policy",
    ]
    assert rows[0]["by"] == "kim"
    assert all(row["is_accepted"] for row in rows)


def test_a_policy_that_cannot_be_used_is_not_even_written(kafka: Kafka, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\nsettings:\n  mood: good\n  mode: strict\n")
    told = kafka.run("policy", "push", str(bad), "--reason", "x")
    assert told.status == 2
    assert "bad.yaml:3: settings.mood" in told.err
    assert "bad.yaml:4: settings.mode" in told.err
    assert asked(kafka) == []


def test_a_pack_that_warns_is_enforced_only_with_yes(kafka: Kafka, tmp_path: Path) -> None:
    file = tmp_path / "strict.yaml"
    file.write_text("name: strict\nextends: reference\nsettings:\n  mode: enforce\n")
    told = kafka.run("policy", "push", str(file), "--reason", "x")
    assert told.status == 2
    assert "Give --yes" in told.err
    assert asked(kafka) == []
    assert kafka.run("policy", "push", str(file), "--shadow", "--reason", "x").status == 0
    assert kafka.run("policy", "promote", "--reason", "x").status == 2
    assert kafka.run("policy", "promote", "--yes", "--reason", "x").status == 0


def test_the_history_tells_what_was_refused_and_why(kafka: Kafka) -> None:
    from tests.control.asked import bad_push, push
    from tests.control.sequencing import ask_all

    ask_all(kafka.config, kafka.topics, push("good"), bad_push())
    told = kafka.run("policy", "history")
    assert told.status == 0
    assert "REFUSED  kim: a test" in told.out
    assert "settings.mood" in told.out
    assert "good@" in kafka.run("policy", "status").out
