"""What each kind of channel shows of alerts of one cause."""

from msgspec.structs import replace

from tests.alert_send.alerts import alert, setup
from tests.alert_send.graphs import DB
from tidegate.streams.alert.grouped import Grouped, composed

MEMBERS = [
    (replace(alert(incident=f"{i:016x}", scope=f"service:s{i}"), title=f"s{i}: slow"), i == 0)
    for i in range(20)
]
GROUPED = Grouped(key=f"{0:016x}", cause="db", reason=DB)
MESSAGE, LIST = composed(
    "change",
    MEMBERS[-1][0],
    MEMBERS,
    grouped=GROUPED,
    cause_scope="inbound:db",
    number=7,
    tier="P1",
)
CHANNELS = setup("https://x.example").channels


def test_a_chat_shows_the_cause_and_a_list_that_fits() -> None:
    for name in ("chat", "ding"):
        text = CHANNELS[name].request(MESSAGE, 0, LIST).body.decode()
        assert "P1 changed: db: 20 alerts of one cause (service:s1, service:s2, service:s3" in text
        assert f"> cause {DB}" in text
        assert "> P2 s1: slow" in text
        assert "> P2 s15: slow" in text
        assert "s16: slow" not in text
        assert "> and 5 more" in text
        assert f"incident {0:016x}, event 7" in text


def test_a_phone_has_one_key_and_every_alert() -> None:
    event = CHANNELS["phone"].request(MESSAGE, 0, LIST).body.decode()
    assert f'"dedup_key":"{0:016x}"' in event
    assert '"severity":"critical"' in event
    assert '"P2 s0: slow (over)"' in event


def test_a_cloud_event_carries_the_cause_and_the_alerts() -> None:
    event = CHANNELS["hook"].request(MESSAGE, 0, LIST).body.decode()
    for part in ('"cause":"db"', '"subject":"inbound:db"', f'"id":"{0:016x}-7"', '"count":20'):
        assert part in event


def test_alertmanager_gets_each_alert_with_its_cause_as_a_label() -> None:
    one = MEMBERS[1][0]
    body = CHANNELS["am"].request(one, 0, GROUPED).body.decode()
    assert '"cause":"db"' in body
    assert '"scope":"service:s1"' in body
    assert DB in body


def test_a_group_of_one_keeps_its_own_words() -> None:
    told, listed = composed(
        "start",
        MEMBERS[1][0],
        MEMBERS[1:2],
        grouped=GROUPED,
        cause_scope="inbound:db",
        number=1,
        tier="P2",
    )
    text = CHANNELS["chat"].request(told, 0, listed).body.decode()
    assert "P2 started: s1: slow" in text
    assert f"> cause {DB}" in text
