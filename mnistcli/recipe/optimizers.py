"""The optimizers that a recipe may name: values, their words, and what `--set optim=NAME` brings.

`engine.optim.build_optimizer` makes them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mnistcli.recipe import words
from mnistcli.recipe.section import Decay, Lr, Section

_DECAY = "Pull of the weights towards 0."
_SPARED = "Whether normalisation and biases decay as well."


class Sgd(Section):
    """SGD with momentum, Nesterov's form unless switched off."""

    name: Literal["sgd"]
    lr: Lr = Field(description=words.LR)
    momentum: float = Field(ge=0, lt=1, description="Share of the last update that is kept.")
    nesterov: bool = Field(description="Nesterov's form of the momentum.")
    weight_decay: Decay = Field(description=_DECAY)
    decay_norm_and_bias: bool = Field(description=_SPARED)

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "sgd": {  # configs/plain/v3.yaml, chosen on the validation split
            "lr": 0.2,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 2e-4,
            "decay_norm_and_bias": False,
        },
    }

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0; else optim.nesterov=false")
        return self


class Adam(Section):
    """Adam with L2 weight decay inside the gradient, or AdamW with decoupled decay."""

    name: Literal["adam", "adamw"]
    lr: Lr = Field(description=words.LR)
    weight_decay: Decay = Field(description=_DECAY)
    decay_norm_and_bias: bool = Field(description=_SPARED)

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "adam": {  # torch's decay, adamw's rate: 98.3 % as well, with torch's 1e-3 95.5 %
            "lr": 0.01,
            "weight_decay": 0.0,
            "decay_norm_and_bias": False,
        },
        "adamw": {  # configs/plain/v1.yaml; torch's 1e-3 and 1e-2 give plain/v3 2.5 points less
            # after two epochs (98.3 and 95.8 %, 1 seed, validation)
            "lr": 0.01,
            "weight_decay": 1e-4,
            "decay_norm_and_bias": False,
        },
    }


class Muon(Section):
    """Muon at `muon_lr` on the hidden convolutions, SGD with Nesterov momentum at `lr` elsewhere.

    The schedule moves both in proportion; decay is decoupled.
    """

    name: Literal["muon"]
    lr: Lr = Field(description=f"{words.LR[:-1]}, of SGD on all other weights.")
    muon_lr: Lr = Field(description=f"{words.LR[:-1]}, of Muon on the hidden convolutions.")
    momentum: float = Field(ge=0, lt=1, description="Share of the last update that is kept.")
    weight_decay: Decay = Field(description=_DECAY)
    decay_norm_and_bias: bool = Field(description=_SPARED)

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "muon": {  # configs/v3.yaml, chosen on the validation split
            "lr": 0.2,
            "muon_lr": 0.03,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "decay_norm_and_bias": False,
        },
    }


Optimizer = Annotated[Sgd | Adam | Muon, Field(discriminator="name")]
