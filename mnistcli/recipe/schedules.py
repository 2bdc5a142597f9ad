"""The learning rate's schedules: values, their words, and what `--set schedule=NAME` brings.

`engine.optim.lr_at` computes them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mnistcli.recipe.section import MOST_EPOCHS, Section


class OneCycle(Section):
    """Linear from 0 to the peak over `warmup_fraction` of all steps, then a cosine to 0."""

    name: Literal["onecycle"]
    warmup_fraction: float = Field(
        ge=0, lt=1, description="Share of all steps from 0 to the peak; then a cosine to 0."
    )

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "onecycle": {"warmup_fraction": 0.2},  # all packaged recipes that have it
    }


class Cosine(Section):
    """A cosine from the peak to 0 over all steps."""

    name: Literal["cosine"]

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {"cosine": {}}


class Constant(Section):
    """The same learning rate at every step."""

    name: Literal["constant"]

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {"constant": {}}


class Plateau(Section):
    """torch's ReduceLROnPlateau in mode max: follow the accuracy on `split`."""

    name: Literal["plateau"]
    split: Literal["validation", "test"] = Field(description="The pictures that it follows.")
    factor: float = Field(gt=0, lt=1, description="What the rate is multiplied by.")
    patience_epochs: int = Field(
        ge=0, le=MOST_EPOCHS, description="Epochs without improvement before that."
    )
    min_lr: float = Field(ge=0, description="The rate does not fall below this.")

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "plateau": {  # torch's factor and least rate; configs/baseline/v3.yaml's patience
            "split": "validation",  # a choice on the test set is never a default
            "factor": 0.1,
            "patience_epochs": 1,
            "min_lr": 0.0,
        },
    }


class StepDecay(Section):
    """torch's MultiStepLR or StepLR: times `factor` after these epochs, or after every so many."""

    name: Literal["step"]
    milestones: list[Annotated[int, Field(ge=1, le=MOST_EPOCHS)]] | None = Field(
        default=None, min_length=1, max_length=100,
        description="The epochs after which the rate is lowered.",
    )  # fmt: skip
    every_epochs: int | None = Field(
        default=None, ge=1, le=MOST_EPOCHS, description="The rate is lowered after every so many."
    )
    factor: float = Field(gt=0, lt=1, description="What the rate is multiplied by.")

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "step": {  # a third of 15 epochs, as the ImageNet example of pytorch/examples: 30 of 90
            "every_epochs": 5,
            "factor": 0.1,
        },
    }

    @model_validator(mode="after")
    def _one_way_of_saying_when(self) -> StepDecay:
        if (self.milestones is None) == (self.every_epochs is None):
            raise ValueError("give either milestones or every_epochs")
        if self.milestones is not None and self.milestones != sorted({*self.milestones}):
            raise ValueError(f"milestones {self.milestones} do not rise")
        return self

    def lowered(self, epochs_done: int) -> int:
        """Return how often the rate was lowered after so many epochs."""
        if self.every_epochs is not None:
            return epochs_done // self.every_epochs
        return sum(milestone <= epochs_done for milestone in self.milestones or ())


Schedule = Annotated[
    OneCycle | Cosine | Constant | Plateau | StepDecay, Field(discriminator="name")
]
