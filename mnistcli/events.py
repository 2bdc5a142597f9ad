"""What the engine tells the outside: frozen events. No torch and no formatting here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["test", "validation"]


@dataclass(frozen=True)
class EpochMetrics:
    """The figures of one finished epoch.

    Losses are means over pictures, in nats; the training figures are taken on augmented pictures
    with the recipe's label smoothing, before each step's update. `split` names what the
    `eval_*` figures were read on. Memory is in MiB: allocated and reserved are the peaks of the
    epoch on CUDA, `rss_mib` is the peak resident set of the process, read on the CPU. A new
    figure comes last and has a default, so that older runs can still be read.
    """

    epoch: int
    train_loss: float
    train_correct: int
    train_total: int
    split: Split
    eval_loss: float
    eval_correct: int
    eval_total: int
    best_correct: int
    epochs_since_best: int
    lr: float
    allocated_mib: float | None
    reserved_mib: float | None
    rss_mib: float | None
    images_per_second: float
    train_seconds: float
    eval_seconds: float

    @property
    def accuracy(self) -> float:
        """Correct share of the evaluated pictures, 0 to 1."""
        return self.eval_correct / self.eval_total


@dataclass(frozen=True)
class Notice:
    """One line that a person should see."""

    text: str


@dataclass(frozen=True)
class RunKept(Notice):
    """A run was finished before."""


@dataclass(frozen=True)
class RunStarted:
    """A run is about to train its next epoch; `history` holds the epochs done before.

    `teacher` names the network whose answers it learns from beside the labels, if any.
    """

    model: str
    parameters: int
    recipe: str
    changes: tuple[str, ...]
    optimizer: str
    teacher: str | None
    seed: int
    epochs: int
    split: Split
    train_images: int
    runtime: dict[str, Any]
    run_dir: str
    history: tuple[EpochMetrics, ...] = ()


@dataclass(frozen=True)
class BatchFinished:
    """Progress inside an epoch, emitted about twenty times per epoch."""

    epoch: int
    batch: int
    batches: int
    train_loss: float
    train_accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class EpochFinished:
    """An epoch is trained, evaluated and saved."""

    metrics: EpochMetrics
    epochs: int
    run_dir: str
    history: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class RunFinished:
    """A run is over; `stopped_early` says that patience ended it before its last epoch."""

    history: tuple[EpochMetrics, ...]
    stopped_early: bool


@dataclass(frozen=True)
class Mistake:
    """A misread picture: its index among the evaluated ones, and its 784 grey bytes."""

    index: int
    label: int
    prediction: int
    confidence: float
    pixels: bytes


@dataclass(frozen=True)
class Prediction:
    """What a network reads in a person's picture; `top` are (digit, probability), best first.

    `doubt` says why the picture looks unlike one digit, None where nothing speaks against it.
    """

    file: str
    width: int
    height: int
    polarity: str
    top: tuple[tuple[int, float], ...]
    doubt: str | None
    pixels: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without the pixels."""
        return {
            "file": self.file,
            "digit": self.top[0][0],
            "probability": self.top[0][1],
            "top": [{"digit": digit, "probability": share} for digit, share in self.top],
            "doubt": self.doubt,
            "polarity": self.polarity,
            "width": self.width,
            "height": self.height,
        }


@dataclass(frozen=True)
class SetStarted:
    """Ranks are about to share out `runs` runs, of which `done` are over already."""

    model: str
    recipe: str
    changes: tuple[str, ...]
    optimizer: str
    teacher: str | None
    runs: int
    done: int
    ranks: int
    restarts: int
    runtime: dict[str, Any]
    folder: str


@dataclass(frozen=True)
class RunRecorded:
    """A run's result is written; what its pictures are drawn from, the surest mistake first."""

    run_dir: str
    model: str
    seed: int
    history: tuple[EpochMetrics, ...]
    confusion: list[list[int]]
    mistakes: tuple[Mistake, ...]
    target: str


@dataclass(frozen=True)
class RowAdded:
    """A run of a set is over, on whatever rank: its row, as set.json holds it."""

    row: dict[str, Any]
    done: int
    runs: int


@dataclass(frozen=True)
class StudyMoved:
    """A study begins a stage, or one of its runs is over: `row`.

    `table` holds a row for each arm of the stage; `done` of `runs` are over in all stages.
    """

    stage: str
    table: tuple[dict[str, Any], ...]
    row: dict[str, Any] | None
    done: int
    runs: int
    seconds_left: float | None
    folder: str


Event = (
    Notice
    | RunStarted
    | BatchFinished
    | EpochFinished
    | RunFinished
    | RunRecorded
    | SetStarted
    | RowAdded
    | StudyMoved
)
Emit = Callable[[Event], None]
ShouldStop = Callable[[], int | None]  # the number of a signal that asked to stop, or None
