"""`tidegate policy check|show|diff|explain|schema`: policy files before they are in force, and what holds for
a service and why. What changes a running installation (push, roll-outs) is in `policy_control`.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tidegate.streams import policy_control
from tidegate.streams.command_options import add_command, add_json_option
from tidegate.streams.errors import UsageError
from tidegate.streams.kafka_options import add_kafka_options, kafka_config_of, topics_of

if TYPE_CHECKING:
    from tidegate.rules.policy import Policy
    from tidegate.rules.policy_layers import Layer

__all__ = ["add_parser"]

_DESCRIPTION = """\
Policies are YAML: every number of the rules, with its source. Look at them before they are in
force, roll them out, and ask what holds for a service and why."""
_EXAMPLES = """\
examples:
  tidegate policy check shop.yaml
  tidegate policy diff default shop.yaml
  tidegate policy explain payments --policy shop.yaml
  tidegate policy push shop.yaml --shadow --reason "try it" --brokers localhost:9092"""
_CHECK = """\
Says everything that is wrong with policies, in one run: file, line, setting, what was found and
what is allowed. Files that a policy extends are checked with it.

exit status: 0 all are good, 1 something is wrong"""
_CHECK_EXAMPLES = """\
examples:
  tidegate policy check policies/*.yaml
  tidegate policy check shop.yaml --json | jq '.files[].problems[]'"""
_SHOW = """\
Prints a whole policy, as it is once all that it extends lies below it. Behind each value stands
where it comes from. The output is a policy file that means the same."""
_SHOW_EXAMPLES = """\
examples:
  tidegate policy show
  tidegate policy show shop.yaml
  tidegate policy show reference --json | jq .effective.settings"""
_DIFF = """\
Prints what differs between two policies once all that they extend lies below them: each setting
with its value before and after, and each rule that was added, removed, changed or moved.

exit status: 0 equal, 1 different, 2 one of them can't be used"""
_DIFF_EXAMPLES = """\
examples:
  tidegate policy diff default shop.yaml
  git show HEAD:shop.yaml > before.yaml; tidegate policy diff before.yaml shop.yaml"""
_EXPLAIN = """\
Prints the settings that hold for a service, or for its calls to one target, with the file, line
and rule that each comes from: those that differ from the pack, or all with --all.

With --brokers also what the decisions of the last 24 hours turned away, or (mode: observe) would
have turned away, by the newest decision of the service and of each of its edges."""
_EXPLAIN_EXAMPLES = """\
examples:
  tidegate policy explain payments --policy shop.yaml
  tidegate policy explain payments postgresql --policy shop.yaml --all
  tidegate policy explain payments --policy shop.yaml --brokers localhost:9092"""
_SCHEMA = """\
Prints the JSON Schema of a policy file (draft 2020-12), for editors that complete and check YAML.
Most take it from the file's first line:

  # yaml-language-server: $schema=policy.schema.json"""
_SCHEMA_EXAMPLES = """\
examples:
  tidegate policy schema"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tidegate policy` with all its commands."""
    policy = subparsers.add_parser(
        "policy",
        help="check, show, compare, explain and roll out policies",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    commands = policy.add_subparsers(title="commands", metavar="COMMAND", dest="policy_command")

    check = add_command(
        commands, "check", "say what is wrong with policies", _CHECK, _CHECK_EXAMPLES
    )
    check.add_argument("policies", nargs="+", metavar="FILE|PACK", help="what to check")
    add_json_option(check)
    check.set_defaults(handler=_check)

    show = add_command(
        commands, "show", "print a whole policy with its sources", _SHOW, _SHOW_EXAMPLES
    )
    show.add_argument(
        "policy",
        nargs="?",
        default="default",
        metavar="FILE|PACK",
        help="the policy (default: default)",
    )
    add_json_option(show)
    show.set_defaults(handler=_show)

    diff = add_command(commands, "diff", "print what differs between two", _DIFF, _DIFF_EXAMPLES)
    diff.add_argument("before", metavar="A", help="a pack or file")
    diff.add_argument("after", metavar="B", help="what it is compared with")
    add_json_option(diff)
    diff.set_defaults(handler=_diff)

    explain = add_command(
        commands, "explain", "say what holds for a service and why", _EXPLAIN, _EXPLAIN_EXAMPLES
    )
    explain.add_argument("service", metavar="SERVICE", help="its name, or a scope")
    explain.add_argument("target", nargs="?", default="", metavar="TARGET", help="of its calls")
    explain.add_argument(
        "--policy", default="default", metavar="FILE|PACK", help="the policy (default: default)"
    )
    explain.add_argument("--all", action="store_true", help="also what is as in the pack")
    add_kafka_options(explain)
    add_json_option(explain)
    explain.set_defaults(handler=_explain)

    schema = add_command(commands, "schema", "print the JSON Schema", _SCHEMA, _SCHEMA_EXAMPLES)
    schema.set_defaults(handler=_schema)

    policy_control.add_subparsers(commands)


def _check(args: argparse.Namespace) -> int:
    from tidegate.rules.policy import PolicyError
    from tidegate.streams.policy_files import read_policy

    files: list[dict[str, Any]] = []
    told: set[str] = set()
    lines: list[str] = []
    for name in args.policies:
        try:
            policy = read_policy(name)
        except PolicyError as refused:
            problems = [
                {"file": p.where, "line": p.line, "path": p.path, "message": p.message}
                for p in refused.problems
            ]
            files.append({"name": name, "policy": None, "problems": problems, "warnings": []})
            # Two files may extend one that is wrong: told once.
            new = [str(p) for p in refused.problems if str(p) not in told]
            told.update(new)
            lines += new
        else:
            warnings = list(policy.warnings)
            files.append(
                {"name": name, "policy": policy.label, "problems": [], "warnings": warnings}
            )
            lines.append(f"{name}: good, {policy.label}")
            lines += [f"{name}: warning: {warning}" for warning in warnings]
    is_good = not any(file["problems"] for file in files)
    _print({"is_good": is_good, "files": files}, lines, is_json=args.json)
    return 0 if is_good else 1


def _show(args: argparse.Namespace) -> int:
    from tidegate.streams.policy_text import show_lines, show_report

    layers, policy = _read(args.policy)
    _print(show_report(layers, policy), show_lines(layers, policy), is_json=args.json)
    return 0


def _diff(args: argparse.Namespace) -> int:
    from tidegate.rules.policy_origin import changed_rules, changed_values, values_of
    from tidegate.streams.policy_text import change_lines, change_report

    before, policy_before = _read(args.before)
    after, policy_after = _read(args.after)
    values = changed_values(values_of(before), values_of(after))
    rules = changed_rules(before, after)
    report = {
        "before": policy_before.label,
        "after": policy_after.label,
        **change_report(values, rules),
    }
    _print(report, change_lines(values, rules), is_json=args.json)
    return 1 if values or rules else 0


def _explain(args: argparse.Namespace) -> int:
    from tidegate.rules.policy_origin import pack_of, values_for
    from tidegate.schemas.scope import scope_of_key
    from tidegate.streams.policy_text import explain_lines, explain_report, head_of

    service, target = _key(args.service, args.target)
    layers, policy = _read(args.policy)
    number = policy.settings_for(service, target)
    rule = number - 1 if number else None
    values = [v for v in values_for(layers, rule) if v.path not in ("name", "warning")]
    scope = scope_of_key(service, target)
    report: dict[str, Any] = {
        "scope": scope,
        "policy": policy.label,
        "rule": rule,
        "values": explain_report(values, is_all=args.all),
    }
    head = head_of(policy, layers, scope, rule)
    lines = list(explain_lines(values, head=head, pack=pack_of(layers), is_all=args.all))
    if args.brokers or args.kafka_config:
        from tidegate.streams.policy_shed import newest_decisions, shed_lines, shed_report

        decisions = newest_decisions(
            kafka_config_of(args), topics_of(args).decisions, service, target
        )
        report["last_24h"] = shed_report(decisions)
        lines += ["", *shed_lines(decisions, scope)]
    _print(report, lines, is_json=args.json)
    return 0


def _schema(_: argparse.Namespace) -> int:
    from tidegate.rules.policy_schema import policy_schema

    sys.stdout.write(json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0


def _read(name: str) -> "tuple[tuple[Layer, ...], Policy]":
    from tidegate.rules.policy import PolicyError, policy_of_layers
    from tidegate.streams.policy_files import layers_named

    try:
        layers = layers_named(name)
        return layers, policy_of_layers(layers)
    except PolicyError as problem:
        raise UsageError(str(problem)) from problem


def _key(service: str, target: str) -> tuple[str, str]:
    from tidegate.schemas.scope import key_of_scope

    if target or not service.startswith(("service:", "edge:")):
        return service, target
    try:
        return key_of_scope(service)
    except ValueError as problem:
        raise UsageError(str(problem)) from problem


def _print(report: dict[str, Any], lines: Iterable[str], *, is_json: bool) -> None:
    if is_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)
