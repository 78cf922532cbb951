"""Case files: what they hold, and everything that is wrong with one, at once, each by its line."""

from pathlib import Path

import pytest

from tests.policy_test.files import WELL, one_case
from tidegate.rules.policy import PolicyError, builtin_policy, policy_from_content
from tidegate.streams.policy_test.reading import read_case_text

EXPECT = "expect:\n  - always: service:payments level=closed"


def problems_of(text: str, where: str = "it.yaml") -> list[str]:
    with pytest.raises(PolicyError) as caught:
        read_case_text(text, where=where)
    return str(caught.value).split("\n")


def test_a_case_has_what_its_text_says() -> None:
    case = one_case(
        f"""
seed: 7
obey: true
traffic:
  payments: {WELL}
  shop  ->  payments: 1rps for 30s
  slow: {{series: 5rps for 1s, instances: 10, bad_instance: 1}}
metrics:
  payments@pod-1:
    - go.goroutine.count=6000 every 5s for 10s
    - tidegate.pressure.memory.full=0.25 for 90s
operator:
  - at 50s: lock service:payments
  - at 20s: relearn service:payments
expect:
  - at 30s: service:payments level=closed within 95s
"""
    )
    assert [key for key, _ in case.traffic] == [
        ("payments", ""), ("shop", "payments"), ("slow", ""),
    ]  # fmt: skip
    assert case.traffic[2][1].segments[0].instances == 10
    assert [series.instance for series in case.metrics] == ["pod-1", "pod-1"]
    points = list(case.metrics[0].points())
    assert [(at_ms, point.value) for at_ms, point in points] == [(0, 6000), (5000, 6000)]
    assert next(case.metrics[1].points())[1].value == 250
    assert [at_ms for at_ms, _ in case.actions] == [20_000, 50_000]
    assert (case.seed, case.obeys, case.length_ms, case.title) == (7, True, 125_000, "it: it")
    assert policy_from_content(case.policy).label == builtin_policy("default").label


def test_counts_of_metrics_grow_since_the_beginning_and_levels_do_not() -> None:
    case = one_case(
        f"""
metrics:
  payments@pod-1: [tidegate.cgroup.memory.events.oom_kill=0 for 5s; then 2 for 5s]
traffic: {{payments: {WELL}}}
{EXPECT}
"""
    )
    points = [point for _, point in case.metrics[0].points()]
    assert [(p.temporality, p.value) for p in points] == [(2, 0), (2, 2)]
    assert points[0].start_ms == points[1].start_ms == points[0].time_ms


def test_policies_are_found_beside_the_file_inline_or_among_the_packs(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("name: shop\nsettings: {target_ms: 1234}\n")
    body = f"traffic: {{payments: {WELL}}}, expect: [always: service:payments level=closed]"
    text = f"""
policy: shop.yaml
cases:
  - {{name: of the file, {body}}}
  - {{name: its own, policy: reference, {body}}}
  - name: inline
    policy:
      extends: shop.yaml
      settings: {{mode: enforce}}
    traffic: {{payments: {WELL}}}
    operator: [at 5s: policy push shop.yaml]
    expect: [always: service:payments level=closed]
"""
    cases = read_case_text(text, where=str(tmp_path / "cases.yaml"))
    of_file, own, inline = (policy_from_content(case.policy) for case in cases)
    assert (of_file.file.name, of_file.settings[0].target_ms) == ("shop", 1234)
    assert own.file.name == "reference"
    assert (inline.settings[0].target_ms, inline.settings[0].mode) == (1234, "enforce")
    assert inline.file.name == "cases-line-7"


def test_everything_that_is_wrong_is_told_at_once_each_by_its_line() -> None:
    text = """\
policy:
  extends: default
  settings: {level: {sleep_s: -5}}
case: []
cases:
  - name: it
    sed: 3
    obey: maybe
    traffic:
      payments: 20 for 60s
      pay ments: 1rps for 1s
      shop: {serie: 1rps for 1s}
    metrics:
      payments@pod-1: go.gorutine.count=5 for 5s
    operator:
      - 30s: lock service:payments
      - at 30s: luck service:payments
    expect:
      - at 63s: service:payments level>=opn
      - always
  - traffic: 5
  - 7
"""
    told = "\n".join(problems_of(text))
    for line, message in (
        (4, "case: 'case' is no key of a case file; did you mean `cases`?"),
        (7, "cases[0].sed: 'sed' is no key of a case; did you mean `seed`?"),
        (8, "cases[0].obey: 'maybe': give true or false"),
        (10, "cases[0].traffic.payments: '20' is no rate; give requests per second or minute"),
        (11, "cases[0].traffic.pay ments: is no key; give a service, or `caller -> target`"),
        (
            12,
            "cases[0].traffic.shop.serie: 'serie' is no attribute of a series; did you mean `series`?",
        ),
        (14, "'go.gorutine.count=5' begins with no metric; did you mean `go.goroutine.count`?"),
        (16, "cases[0].operator[0]: '30s' is no moment; write `at 30s: lock service:payments`"),
        (17, "cases[0].operator[1]: 'luck' is no action; did you mean `lock`?"),
        (19, "cases[0].expect[0]: 'opn' is no level; did you mean `open`?"),
        (20, "cases[0].expect[1]: found 'always'; write `- at 63s: what`"),
        (21, "cases[1].name: is missing; say in a sentence what is tested"),
        (21, "cases[1].traffic: 5 is not a mapping"),
        (21, "cases[1].expect: expects nothing; give at least one line"),
        (22, "cases[2]: a case is a mapping; found 7"),
        (3, "settings.level.sleep_s: -5 "),
    ):
        assert f"it.yaml:{line}: " in told
        assert any(f"it.yaml:{line}: " in row and message in row for row in told.split("\n")), (
            message
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: default", "it.yaml: cases: has no case; give a list of them, each with a name"),
        ("- 1", "it.yaml: expected a mapping of settings; found a list"),
        ("cases: [", "it.yaml:2: is not YAML"),
        (
            f"cases:\n  - name: a\n    traffic: {{p: {WELL}}}\n    {EXPECT.replace(chr(10), chr(10) + '    ')}",
            "it.yaml:2: cases[0].policy: is missing; give a file or one of default, reference, adaptive",
        ),
        ("policy: nowhere.yaml\ncases: [{name: a}]", "nowhere.yaml: can't be read"),
        ("policy: 5\ncases: [{name: a}]", "it.yaml:1: policy: 5 is no text"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(text: str, message: str) -> None:
    assert any(message in row for row in problems_of(text))


def test_names_of_cases_are_told_apart() -> None:
    body = f"policy: default, traffic: {{p: {WELL}}}, expect: [always: service:p level=closed]"
    text = f"cases:\n  - {{name: a, {body}}}\n  - {{name: a, {body}}}\n"
    assert problems_of(text) == [
        "it.yaml:3: name: 'a' is the name of the case in line 2, too; give another"
    ]


@pytest.mark.parametrize(
    ("traffic", "message"),
    [
        ("p: 20000rps for 1h", "would have up to 72,000,000 requests; give at most 3,000,000"),
        ("p: 1rps for 48h; then for 1s", "takes more than 48h of virtual time; give less"),
    ],
)
def test_cases_too_large_are_refused(traffic: str, message: str) -> None:
    text = f"""
cases:
  - name: a
    policy: default
    traffic: {{"{traffic.partition(":")[0]}": "{traffic.partition(": ")[2]}"}}
    expect: [always: service:p level=closed]
"""
    assert [message in row for row in problems_of(text)] == [True]
