"""Statistics against published worked examples and tables."""

from __future__ import annotations

import pytest

from mnistcli.results.stats import (
    mcnemar_p,
    mean_interval,
    paired_p,
    t_cdf,
    t_quantile,
    wilson,
)


def test_wilson_is_newcombes_example() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81/263 and 15/148, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(
    ("p", "degrees", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 9, 2.262),
        (0.975, 29, 2.045),
        (0.95, 10, 1.812),
    ],
)
def test_t_quantiles_are_the_tables(p: float, degrees: int, expected: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(expected, abs=5e-4)
    assert t_cdf(t_quantile(p, degrees), degrees) == pytest.approx(p)


def test_paired_test_is_students_sleep_data() -> None:
    """Student, Biometrika 6 (1908): t = -4.0621, df = 9, two-sided p = 0.002833."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert paired_p(first, second) == pytest.approx(0.002833, abs=5e-7)
    assert paired_p(first, first) == 1.0


def test_mcnemar_is_the_published_exact_test() -> None:
    """Fagerland, Lydersen, Laake, BMC Med. Res. Methodol. 13:91 (2013), table 1: 21 children,
    1 and 7 discordant pairs, exact conditional p = 0.0703. Then 2 · (1 + 10) / 2¹⁰ by hand."""
    assert mcnemar_p(1, 7) == mcnemar_p(7, 1) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar_p(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar_p(5, 5) == 1.0
    assert mcnemar_p(0, 0) == 1.0


def test_mean_interval_is_students_sleep_data() -> None:
    """R's `t.test(extra ~ group, data = sleep, paired = TRUE)`: mean 1.58 hours, 95 % interval
    0.7001142 to 2.4598858; here in tens of hours, since the function is for shares."""
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    expected = (0.07001142, 0.24598858)
    assert mean_interval([hours / 10 for hours in gained]) == pytest.approx(expected, abs=1e-8)


def test_mean_interval_by_hand() -> None:
    """0.4, 0.5, 0.6: sd 0.1, half width 4.3027 · 0.1 / √3."""
    assert mean_interval([0.4, 0.5, 0.6]) == pytest.approx((0.25159, 0.74841), abs=1e-5)
