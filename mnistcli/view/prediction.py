"""Show what a network reads in a person's pictures, beside what it saw of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnistcli.events import Prediction
from mnistcli.view import digits
from mnistcli.view.output import Output
from mnistcli.view.tables import Column, plain_line

_PLAIN = [
    Column("file", "file"),
    Column("digit", "digit"),
    Column("probability", "probability", plain="{:.4f}".format),
    Column("second", "second"),
    Column("second_probability", "", plain="{:.4f}".format),
    Column("third", "third"),
    Column("third_probability", "", plain="{:.4f}".format),
    Column("doubt", "doubt"),
    Column("polarity", "polarity", plain=lambda v: v.replace(" ", "-")),
    Column("size", "size", plain=lambda v: f"{v[0]}x{v[1]}"),
]
_BAR = 20


def show_predictions(output: Output, found: Sequence[Prediction]) -> None:
    """Draw each picture with its guesses beside it; a pipe gets a line for each."""
    for one in found:
        if output.live and not output.quiet:
            _draw(output, one)
        elif not output.json:
            output.result(plain_line("picture", _PLAIN, _row(one)))


def printable(text: str) -> str:
    """Return a text with what a terminal would obey, or not show, as escape sequences."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _row(one: Prediction) -> dict[str, Any]:
    values = vars(one) | {"size": (one.width, one.height)}
    for name, (digit, probability) in zip(("", "second", "third"), one.top, strict=True):
        values |= {name or "digit": digit, f"{name}_probability".lstrip("_"): probability}
    return values


def _draw(output: Output, one: Prediction) -> None:
    """Print the picture that the network saw, with the text on its right."""
    from rich.text import Text

    console = output.console()
    text = [
        Text(),
        Text(f"{one.width}×{one.height} pixels, {one.polarity}"),
        Text("left: the 28×28 picture that the network saw", style="dim"),
        Text(),
    ]
    for place, (digit, probability) in enumerate(one.top):
        bar = "█" * round(_BAR * probability)
        guess = f"{digit}  {100 * probability:6.2f} %  {bar}"
        text.append(Text(guess, style="bold" if place == 0 else ""))
    if one.doubt:  # a line for each reason: the terminal may be narrow
        text += [Text(f"doubt: {reason}", style="yellow") for reason in one.doubt.split("; ")]
    console.print(f"\n{printable(one.file)}", style="bold", soft_wrap=True)
    lines = digits.draw(console, one.pixels)
    text += [Text()] * (len(lines) - len(text))
    for line, words in zip(lines, text, strict=True):
        console.print(Text("  ").join([line, words]), no_wrap=True, crop=True)
