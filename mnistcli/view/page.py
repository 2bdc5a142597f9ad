"""A report as one HTML page: no network access, pictures inside it, readable on a phone."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

_MOST_BYTES = 8 * 2**20  # of a picture: ours have 0.1 MB
_SOURCE = re.compile(r'<img src="([^"]*)"')
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.25; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #8886; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 9rem; }
img { max-width: 100%; height: auto; background: white; }
code { font-size: .9em; overflow-wrap: anywhere; }
li, p { overflow-wrap: break-word; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body>
{body}</body></html>
"""


def to_page(markdown: str, place: Path) -> str:
    """Return Markdown as a page; links to pictures are relative to the folder `place`.

    What looks like HTML in it is text, and nothing that a link names but a picture is read.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = body.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )
    body = _SOURCE.sub(lambda match: f'<img src="{_inside(match[1], place)}"', body)
    title = next((one[2:] for one in markdown.splitlines() if one.startswith("# ")), "mnistcli")
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _inside(link: str, place: Path) -> str:
    """Return a PNG as a data URL.

    Raises:
        ArtifactError: it can't be read, or is too large.
    """
    from urllib.parse import unquote

    from mnistcli.results import stored  # pydantic, which --help does without

    path = place / unquote(html.unescape(link))
    data = base64.b64encode(stored.read_bytes(path, most_bytes=_MOST_BYTES)).decode()
    return f"data:image/png;base64,{data}"
