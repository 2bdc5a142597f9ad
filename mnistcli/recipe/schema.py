"""What a recipe may say: every value typed and bounded, nothing converted silently."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mnistcli.recipe import comments, syntax, words
from mnistcli.recipe.optimizers import Optimizer
from mnistcli.recipe.schedules import Plateau, Schedule
from mnistcli.recipe.section import MOST_EPOCHS, Section, kinds_in


class Augment(Section):
    """Ranges of the random geometry, each drawn uniformly in ± its value; 0 switches one off."""

    rotation_degrees: float = Field(ge=0, le=180, description="Turn about the middle.")
    shift_fraction: float = Field(ge=0, lt=1, description="Of the side, x and y apart.")
    scale_fraction: float = Field(ge=0, lt=1, description="Larger or smaller by this share.")
    scale_axes: Literal["joint", "separate"] = Field(
        description="joint: one factor for x and y; separate: one for each."
    )
    shear_degrees: float = Field(ge=0, lt=90, description="Slant.")
    elastic_alpha: float = Field(
        ge=0, le=1000, description="Elastic distortion, torchvision's meaning."
    )
    elastic_sigma_pixels: float = Field(ge=1, le=28, description="Its smoothness.")
    fade_epochs: int = Field(
        default=0, ge=0, le=MOST_EPOCHS, description="The ranges shrink over this many last epochs."
    )

    RANGES: ClassVar[tuple[str, ...]] = (
        "rotation_degrees", "shift_fraction", "scale_fraction", "shear_degrees", "elastic_alpha",
    )  # fmt: skip

    def faded(self, epochs_left: int) -> Augment:
        """Return the ranges of an epoch: over the last `fade_epochs` they shrink linearly.

        `epochs_left` counts the epoch itself: with 3 to fade the last have 3/4, 2/4, 1/4.
        """
        share = min(1.0, epochs_left / (self.fade_epochs + 1))
        return self.model_copy(update={name: getattr(self, name) * share for name in self.RANGES})


class Distillation(Section):
    """Learn from a trained network that reads the same augmented pictures.

    `teacher` is a registered name, which means its reference weights, or the path of a registered
    network's checkpoint. Its loss counts `weight`, the labels' the rest; `temperature` softens its
    answers and the network's before they are compared.
    """

    teacher: str = Field(min_length=1, description=words.TEACHER)
    weight: float = Field(
        gt=0, le=1, description="Of the teacher's loss; the labels' has the rest."
    )
    temperature: float = Field(ge=1, le=100, description="Softens both networks' answers.")


class Notes(Section):
    """What a person says about a run, for `report`: Markdown, decides no figure."""

    target: str = Field(default="", max_length=10_000)
    analysis: str = Field(default="", max_length=10_000)


class Recipe(Section):
    """Everything that decides a run's figures, except the data, the seed's luck and the machine.

    `notes` are words about it: no part of its values, its digest or a checkpoint.
    """

    model: str = Field(min_length=1, description="The network's name, or where its code is.")
    model_args: dict[str, bool | int | float | str] = Field(
        description="What the network is built with."
    )
    epochs: int = Field(ge=1, le=MOST_EPOCHS, description=words.EPOCHS)
    batch_size: int = Field(ge=1, le=60_000, description=words.BATCH_SIZE)
    seed: int = Field(ge=0, lt=2**31, description=words.SEED)
    label_smoothing: float = Field(
        ge=0, lt=1, description="Share of each label that goes to all classes alike."
    )
    optim: Optimizer
    schedule: Schedule
    ema_decay: float | None = Field(
        ge=0, lt=1, description="Per step, of the weights' average that is evaluated; null = off."
    )
    augment: Augment = Field(description="Uniform in ± each value; 0 = off.")
    validation: bool = Field(default=False, description=words.VALIDATION)
    patience_epochs: int | None = Field(
        default=None, ge=1, le=MOST_EPOCHS, description=words.PATIENCE
    )
    distillation: Distillation | None = Field(
        default=None, description="A teacher beside the labels; null = the labels alone."
    )
    notes: Notes | None = Field(
        default=None, exclude=True, description="Words for `report`; they decide no figure."
    )

    @field_validator("model_args")
    @classmethod
    def _arguments_fit_a_checkpoint(
        cls, value: dict[str, bool | int | float | str]
    ) -> dict[str, bool | int | float | str]:
        for name, argument in value.items():
            if isinstance(argument, int) and not -(2**63) <= argument < 2**63:
                raise ValueError(f"{name} has more than 64 bits")
        return value

    @model_validator(mode="after")
    def _choices_need_validation(self) -> Recipe:
        if self.patience_epochs is not None and not self.validation:
            raise ValueError("patience_epochs reads validation accuracy: add --val")
        if isinstance(self.schedule, Plateau):
            wanted = "validation" if self.validation else "test"
            if self.schedule.split != wanted:
                mend = "--set schedule.split=validation" if self.validation else "--val"
                raise ValueError(
                    f"schedule.split is {self.schedule.split!r}, but the run reads {wanted}: {mend}"
                )
        return self

    @property
    def teacher(self) -> str | None:
        """The network that the run learns from beside the labels."""
        return None if self.distillation is None else self.distillation.teacher

    def digest(self) -> str:
        """Return a short hash of all values except the seed: equal recipes, equal digest.

        A field that is added to recipes changes every digest. So a record carries its recipe's
        values beside the digest that its run wrote, and is known by today's digest of them.
        """
        values = self.model_dump(exclude={"seed"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def to_yaml(self, *, commented: bool = False) -> str:
        """Return the recipe as YAML that `load` reads back to an equal recipe.

        `commented`: each value's words stand beside it.
        """
        said = {} if self.notes is None else {"notes": self.notes.model_dump()}
        values = self.model_dump() | said
        return comments.to_yaml(values, Recipe) if commented else syntax.to_yaml(values)


SECTIONS: dict[str, tuple[type[Section], ...]] = {
    name: kinds
    for name, field in Recipe.model_fields.items()
    if (kinds := tuple(kinds_in(field.annotation)))
}
