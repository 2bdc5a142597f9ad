"""The words of the values that have an option of their own: help and recipes say them alike.

All other words stand beside their field. Help imports no pydantic, so these stand here.
"""

EPOCHS = "Passes over the training pictures."
BATCH_SIZE = "Pictures per training step."
LR = "Peak learning rate."
SEED = "The run's seed."
TEACHER = "Learn from this network's answers too (distillation)."
VALIDATION = (
    "Train on 50,000 pictures and evaluate on the 10,000 held out; no test picture is read."
)
PATIENCE = "Stop after this many epochs without improvement; needs --val."
