"""The goal in integers, and what an unknown figure does to it."""

from __future__ import annotations

from mnistcli.results.goal import Limits, above, failures, judge, verdict


def test_above_is_strict_and_exact() -> None:
    assert not above(9940, 10_000, "99.4")
    assert above(9941, 10_000, "99.4")
    assert not above(497, 500, "99.4")


def test_all_gates_pass_or_name_themselves() -> None:
    good = judge(7820, 15, [(9941, 10_000)] * 3, Limits())
    assert verdict(good) == "PASS"
    assert failures(good, ["goal"]) == []
    bad = judge(8000, 16, [(9941, 10_000), (9940, 10_000), (9941, 10_000)], Limits())
    assert verdict(bad) == "FAIL"
    assert failures(bad, ["goal"]) == ["params", "epochs", "last3"]
    assert failures(bad, ["accuracy"]) == []


def test_an_unknown_figure_does_not_pass() -> None:
    checks = judge(7820, None, [(9950, 10_000)], Limits())
    assert verdict(checks) == "UNKNOWN"
    assert failures(checks, ["goal"]) == ["epochs", "last3"]
