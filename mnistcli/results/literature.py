"""What others report for upright MNIST with fewer than 10,000 parameters: one model, no ensemble.

Every figure is a single run; most epochs were picked on the test set. None was measured here.
"""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """A reported network; `accuracy` in percent, `epoch` final or best (picked on test)."""

    parameters: int
    accuracy: float
    epoch: str
    epochs: str
    source: str


LABEL = "reported elsewhere: single runs, most picked on test"
POINTS = (
    Point(9_950, 99.60, "final", "15", "sagarigrandhi/EVA4 (9,9xx parameters; drawn at 9,950)"),
    Point(8_172, 99.57, "final", "15", "dine1717/ERA2: one-cycle, dropout 0.05, batch 64"),
    Point(
        7_752, 99.55, "final", "15", "a course's README: rotation 7°, rate schedule; 99.22 without"
    ),
    Point(7_592, 99.54, "best", "16", "a course's notebook: crop, rotation 15°, Adam one-cycle"),
    Point(6_750, 99.50, "final", "15", "dine1717/ERA2: one-cycle, dropout 0.05"),
    Point(
        6_188, 99.54, "best", "15", "nagalakshmi-nimmagadda: rotation 5°, affine, Adam one-cycle"
    ),
    Point(4_838, 99.41, "final", "12", "adilsammar and others: rotation, resized crop, one-cycle"),
    Point(1_936, 99.10, "final", "75", "ruslangrimov/mnist-minimal-model: validation split"),
    Point(697, 99.03, "best", "hundreds", "JoshWarn/Parameter-Efficient-MNIST: about 700 runs"),
    Point(575, 98.00, "best", "20", "hexhowells/NeuralGolfing: pruned against the test set"),
)
