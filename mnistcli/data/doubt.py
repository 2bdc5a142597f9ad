"""Why a picture does not look like one digit, from its ink and from how sure the network is.

The bounds were chosen on MNIST's training pictures and on made ones, never on test pictures. Of
10,000 training pictures 41 have a second large piece, 5 leave v3 unsure, 3 have too much or too
little ink, and none has any other fault.
"""

from __future__ import annotations

from mnistcli.data.ink import longer_side
from mnistcli.data.picture import Picture

_SECOND = 0.7  # of the longest piece's side: a second piece that may be a digit of its own
_PIECES = 5  # MNIST's most broken digits have four
_EDGE = 0.28  # of the picture's border; tightly cut digits have up to 0.26
_INK = (0.03, 0.30)  # mean of the 28×28 picture in 0…1
_SIDE = 0.04  # of the picture's longer side; less than 0.0005 of its area is blank anyway
_SURE = 0.5  # probability of the best guess


def doubt(picture: Picture, probability: float) -> str | None:
    """Return in a few words what speaks against one digit, or None; `probability` is the best's."""
    ink = picture.ink
    pieces, longest = ink.pieces, ink.pieces[0]
    share = float(picture.pixels.float().mean()) / 255
    reasons = {
        "a frame or a dark edge": ink.framed or ink.edge > _EDGE,
        "many separate pieces": len(pieces) >= _PIECES,
        "more than one large piece": 1 < len(pieces) < _PIECES and pieces[1] > _SECOND * longest,
        "a speck": longer_side(ink.levels) < _SIDE * max(ink.levels.shape),
        "less ink than a digit has": share < _INK[0],
        "more ink than a digit has": share > _INK[1],
        "the network is unsure": not probability >= _SURE,
    }
    return "; ".join(words for words, holds in reasons.items() if holds) or None
