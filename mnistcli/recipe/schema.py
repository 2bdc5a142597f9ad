"""What a recipe may say: every value typed and bounded, nothing converted silently."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mnistcli.recipe import text

MOST_EPOCHS = 10_000
SMALLEST_LR = 1e-12  # a hundred thousandth of what moves a float32 weight of 1
_Lr = Annotated[float, Field(ge=SMALLEST_LR)]  # no upper bound: divergence has its own exit code
_Decay = Annotated[float, Field(ge=0, le=10)]


class Section(BaseModel):
    """A part of a recipe: no unknown key, no NaN, no silent conversion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sgd(Section):
    """SGD with momentum, Nesterov's form unless switched off."""

    name: Literal["sgd"]
    lr: _Lr
    momentum: float = Field(ge=0, lt=1)
    nesterov: bool
    weight_decay: _Decay
    decay_norm_and_bias: bool

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; else optim.nesterov=false")
        return self


class Adam(Section):
    """Adam with L2 weight decay inside the gradient, or AdamW with decoupled decay."""

    name: Literal["adam", "adamw"]
    lr: _Lr
    weight_decay: _Decay
    decay_norm_and_bias: bool


class Muon(Section):
    """Muon at `muon_lr` on the hidden convolutions, SGD with Nesterov momentum at `lr` elsewhere.

    The schedule moves both in proportion; decay is decoupled.
    """

    name: Literal["muon"]
    lr: _Lr
    muon_lr: _Lr
    momentum: float = Field(ge=0, lt=1)
    weight_decay: _Decay
    decay_norm_and_bias: bool


class OneCycle(Section):
    """Linear from 0 to the peak over `warmup_fraction` of all steps, then a cosine to 0."""

    name: Literal["onecycle"]
    warmup_fraction: float = Field(ge=0, lt=1)


class Cosine(Section):
    """A cosine from the peak to 0 over all steps."""

    name: Literal["cosine"]


class Constant(Section):
    """The same learning rate at every step."""

    name: Literal["constant"]


class Plateau(Section):
    """torch's ReduceLROnPlateau in mode max: follow the accuracy on `split`."""

    name: Literal["plateau"]
    split: Literal["validation", "test"]
    factor: float = Field(gt=0, lt=1)
    patience_epochs: int = Field(ge=0, le=MOST_EPOCHS)
    min_lr: float = Field(ge=0)


class StepDecay(Section):
    """torch's MultiStepLR or StepLR: times `factor` after these epochs, or after every so many."""

    name: Literal["step"]
    milestones: list[Annotated[int, Field(ge=1, le=MOST_EPOCHS)]] | None = Field(
        default=None, min_length=1, max_length=100
    )
    every_epochs: int | None = Field(default=None, ge=1, le=MOST_EPOCHS)
    factor: float = Field(gt=0, lt=1)

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


class Augment(Section):
    """Ranges of the random geometry, each drawn uniformly in ± its value; 0 switches one off."""

    rotation_degrees: float = Field(ge=0, le=180)
    shift_fraction: float = Field(ge=0, lt=1)
    scale_fraction: float = Field(ge=0, lt=1)
    scale_axes: Literal["joint", "separate"]
    shear_degrees: float = Field(ge=0, lt=90)
    elastic_alpha: float = Field(ge=0, le=1000)
    elastic_sigma_pixels: float = Field(ge=1, le=28)
    fade_epochs: int = Field(default=0, ge=0, le=MOST_EPOCHS)

    def faded(self, epochs_left: int) -> Augment:
        """Return the ranges of an epoch: over the last `fade_epochs` they shrink linearly.

        `epochs_left` counts the epoch itself: with 3 to fade the last have 3/4, 2/4, 1/4.
        """
        share = min(1.0, epochs_left / (self.fade_epochs + 1))
        fields = ("rotation_degrees", "shift_fraction", "scale_fraction", "shear_degrees",
                  "elastic_alpha")  # fmt: skip
        return self.model_copy(update={name: getattr(self, name) * share for name in fields})


class Distillation(Section):
    """Learn from a trained network that reads the same augmented pictures.

    `teacher` is a registered name, which means its reference weights, or the path of a registered
    network's checkpoint. Its loss counts `weight`, the labels' the rest; `temperature` softens its
    answers and the network's before they are compared.
    """

    teacher: str = Field(min_length=1)
    weight: float = Field(gt=0, le=1)
    temperature: float = Field(ge=1, le=100)


class Notes(Section):
    """What a person says about a run, for `report`: Markdown, decides no figure."""

    target: str = Field(default="", max_length=10_000)
    analysis: str = Field(default="", max_length=10_000)


Optimizer = Annotated[Sgd | Adam | Muon, Field(discriminator="name")]
Schedule = Annotated[
    OneCycle | Cosine | Constant | Plateau | StepDecay, Field(discriminator="name")
]


class Recipe(Section):
    """Everything that decides a run's figures, except the data, the seed's luck and the machine.

    `notes` are words about it: no part of its values, its digest or a checkpoint.
    """

    model: str = Field(min_length=1)
    model_args: dict[str, bool | int | float | str]
    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(ge=1, le=60_000)
    seed: int = Field(ge=0, lt=2**31)
    label_smoothing: float = Field(ge=0, lt=1)
    optim: Optimizer
    schedule: Schedule
    ema_decay: float | None = Field(ge=0, lt=1)
    augment: Augment
    validation: bool = False
    patience_epochs: int | None = Field(default=None, ge=1, le=MOST_EPOCHS)
    distillation: Distillation | None = None
    notes: Notes | None = Field(default=None, exclude=True)

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

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `load` reads back to an equal recipe."""
        words = {} if self.notes is None else {"notes": self.notes.model_dump()}
        return text.to_yaml(self.model_dump() | words)
