"""The options that choose or change a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from mnistcli.cli import options
from mnistcli.recipe import words

_RECIPE = "Recipe"
_CODE = "Registered name, path/net.py:factory or package.module:factory."

Network = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help=_CODE,
        autocompletion=options.complete_models,
        show_default="--model, else the recipe's",
        callback=options.at_home,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The same as MODEL.",
        autocompletion=options.complete_models,
        show_default="the recipe's",
        callback=options.at_home,
        rich_help_panel=_RECIPE,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help=words.EPOCHS,
        show_default="the recipe's",
        rich_help_panel=_RECIPE,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help=words.BATCH_SIZE, show_default="the recipe's", rich_help_panel=_RECIPE),
]
Lr = Annotated[
    float | None,
    typer.Option(help=words.LR, show_default="the recipe's", rich_help_panel=_RECIPE),
]
RecipeFile = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Packaged name (baseline/v3) or YAML file.",
        autocompletion=options.complete_recipes,
        show_default="the model's own",
        callback=options.at_home,
        rich_help_panel=_RECIPE,
    ),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe; repeatable. With a new optim.name or schedule.name, "
        "values that both kinds have stay, except lr and weight_decay; all others become the "
        "new kind's defaults.",
        show_default="none",
        rich_help_panel=_RECIPE,
    ),
]
Arguments = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="model_args.KEY=VALUE",
        help="Change an argument of the network; repeatable.",
        show_default="the model's own recipe",
        rich_help_panel=_RECIPE,
    ),
]
Val = Annotated[
    bool,
    typer.Option(
        "--val",
        help=words.VALIDATION,
        rich_help_panel=_RECIPE,
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|RUN",
        help=words.TEACHER,
        show_default="the recipe's",
        callback=options.at_home,
        rich_help_panel=_RECIPE,
    ),
]
NoTeacher = Annotated[
    bool,
    typer.Option("--no-teacher", help="Learn from the labels only.", rich_help_panel=_RECIPE),
]
Patience = Annotated[
    int | None,
    typer.Option(
        help=words.PATIENCE,
        show_default="off",
        rich_help_panel=_RECIPE,
    ),
]
PrintRecipe = Annotated[
    bool,
    typer.Option(
        "--print-recipe", help="Print the resolved recipe and exit.", rich_help_panel=_RECIPE
    ),
]
