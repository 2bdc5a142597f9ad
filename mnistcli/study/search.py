"""Arms sampled by Optuna, an optional extra: its samplers alone, no pruner, no storage.

All arms are drawn before the first run and counted like written ones: nothing is learnt from a
figure in between, so that the registration names them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mnistcli.errors import EnvironmentFault, UsageError
from mnistcli.study.schema import Search

_HINT = "{low: 0.01, high: 0.1, log: true}, {low: 16, high: 128, step: 16} or [a, b]"


def sample(search: Search) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the arms' names and changes.

    Raises:
        UsageError: a range is none.
        EnvironmentFault: Optuna is missing.
    """
    from mnistcli.study.arms import name_of

    optuna = _optuna()
    space = {key: _distribution(optuna, key, text) for key, text in search.ranges.items()}
    samplers = {"random": optuna.samplers.RandomSampler, "qmc": optuna.samplers.QMCSampler}
    sampler = samplers[search.sampler](seed=search.seed)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())
    for _ in range(search.arms):
        trial = study.ask(space)
        changes = {key: _rounded(value) for key, value in trial.params.items()}
        study.tell(trial, state=optuna.trial.TrialState.FAIL)  # asked alone: we hold the figures
        yield name_of(changes), changes


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise EnvironmentFault(
            "search: needs Optuna, which is not installed", hint="pip install optuna"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _distribution(optuna: Any, key: str, text: Any) -> Any:
    """Return Optuna's distribution of a range, or of a list of values."""
    kinds = optuna.distributions
    try:
        if isinstance(text, list):
            return kinds.CategoricalDistribution(text)
        low, high = text["low"], text["high"]
        rest = {name: value for name, value in text.items() if name not in ("low", "high")}
        whole = isinstance(low, int) and isinstance(high, int)
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        return kind(low, high, **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"search.ranges.{key}: {error}"
        raise UsageError(what, hint=_HINT) from error


def _rounded(value: Any) -> Any:
    """Return a value that reads well: four significant digits decide nothing less."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
