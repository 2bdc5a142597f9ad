"""What every part of a recipe is: typed, bounded, with its words beside each value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field

MOST_EPOCHS = 10_000
SMALLEST_LR = 1e-12  # a hundred thousandth of what moves a float32 weight of 1
Lr = Annotated[float, Field(ge=SMALLEST_LR)]  # no upper bound: divergence has its own exit code
Decay = Annotated[float, Field(ge=0, le=10)]


class Section(BaseModel):
    """A part of a recipe: no unknown key, no NaN, no silent conversion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    # Of a kind that has a name: by it, what a change to this kind brings beside the name.
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {}


def kinds_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a field's type allows: its kinds, in their order."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from kinds_in(inner)


def names_of(kind: type[Section]) -> tuple[str, ...]:
    """Return the names by which a recipe chooses this kind; nothing where it has none."""
    field = kind.model_fields.get("name")
    return () if field is None else get_args(field.annotation)
