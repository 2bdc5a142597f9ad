"""Confusion matrix and what follows from it; plain integers in, plain values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Matrix = list[list[int]]


def confusion(labels: Sequence[int], predictions: Sequence[int], classes: int = 10) -> Matrix:
    """Return counts by true class (row) and predicted class (column)."""
    matrix = [[0] * classes for _ in range(classes)]
    for label, prediction in zip(labels, predictions, strict=True):
        matrix[label][prediction] += 1
    return matrix


def per_class(matrix: Matrix) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class; None where a class was never seen."""
    rows = []
    for digit, row in enumerate(matrix):
        hit, actual, predicted = row[digit], sum(row), sum(other[digit] for other in matrix)
        rows.append(
            {
                "digit": digit,
                "pictures": actual,
                "correct": hit,
                "precision": hit / predicted if predicted else None,
                "recall": hit / actual if actual else None,
                "f1": 2 * hit / (actual + predicted) if actual + predicted else None,
            }
        )
    return rows


def worst_pairs(matrix: Matrix, most: int = 5) -> list[dict[str, int]]:
    """Return the most frequent confusions, first the most frequent."""
    pairs = [
        {"true": true, "predicted": predicted, "count": count}
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(pairs, key=lambda pair: (-pair["count"], pair["true"], pair["predicted"]))[:most]
