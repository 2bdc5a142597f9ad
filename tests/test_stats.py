"""Statistics against published worked examples and tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mnistcli.results.stats import holm, mcnemar_p, mean_interval, paired, welch, wilson

# Student, Biometrika 6 (1908): hours of sleep gained by ten patients with each of two drugs.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def test_wilson_is_newcombes_example() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 15/148, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_interval_of_a_mean_takes_students_quantiles() -> None:
    """0.5 ± t · s / √n with s² = 0.1 / 4 and t = 2.776 for 4 degrees (any table)."""
    interval = mean_interval([0.3, 0.4, 0.5, 0.6, 0.7])
    assert interval == pytest.approx((0.5 - 0.1963, 0.5 + 0.1963), abs=5e-5)


def test_the_paired_test_is_students_sleep_data() -> None:
    """R's t.test(…, paired = TRUE): p = 0.002833, -1.58 (-2.4598858 to -0.7001142)."""
    found = paired(*SLEEP)
    assert (found.mean, found.p) == pytest.approx((-1.58, 0.002833), abs=5e-7)
    assert found.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_welchs_test_is_students_sleep_data_taken_as_two_groups() -> None:
    """R's t.test(extra ~ group): p = 0.07939, -1.58 (-3.3654832 to 0.2054832)."""
    found = welch(*SLEEP)
    assert (found.mean, found.p) == pytest.approx((-1.58, 0.07939), abs=5e-6)
    assert found.interval == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_mcnemars_test_is_fagerlands_example() -> None:
    """Fagerland et al., BMC Med. Res. Methodol. 13:91 (2013): 1 and 7 discordant, exact p 0.070."""
    assert mcnemar_p(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_p(7, 1) == mcnemar_p(1, 7)
    assert mcnemar_p(0, 0) == 1.0


def test_holms_adjustment_is_rs_example() -> None:
    """R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"): all but the first are 0.08 or 0.09."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_two_runs_and_runs_that_are_all_alike_tell_of_no_spread() -> None:
    assert mean_interval([0.99, 0.98]) is None
    assert mean_interval([0.99, 0.99, 0.99]) is None
    one_picture = [0.9951, 0.9946, 0.9948], [0.9950, 0.9945, 0.9947]  # each pair one apart
    assert paired(*one_picture)[1:] == (None, None)
    assert welch([0.9] * 3, [0.8] * 3)[1:] == (None, None)


@pytest.mark.processes
def test_what_train_and_evaluate_need_imports_no_scipy() -> None:
    program = (
        "import sys; from mnistcli.results import goal; "
        "goal.judge(1, 1, [(1, 2)], goal.Limits()); print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
