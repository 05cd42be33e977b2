"""The page: everything that was found, in one file that needs nothing else.

It is filled in by Jinja, which escapes each text; a policy in its head lets a browser run the page's own script alone,
and lets it ask for nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import BaseLoader, Environment, StrictUndefined

from ... import __version__
from .boards import Board
from .charts import HEIGHT, WIDTH, Chart
from .differ import Line
from .pictures import Gallery
from .runs import Run

COLOURS = 10  # of curves; more runs have them again, with dashes


def page(
    runs: Sequence[Run],
    boards: Sequence[Board],
    charts: Sequence[Chart],
    recipes: Sequence[Line],
    facts: Sequence[Line],
    pictures: Sequence[Gallery],
    troubles: Sequence[str],
) -> str:
    """The whole page.

    Args:
        runs: Those that are compared, in order.
        boards: Their values.
        charts: Their curves.
        recipes: What differs between their recipes.
        facts: What they were made of and on.
        pictures: Taken along.
        troubles: What could not be read.
    """
    style, script = _own("page.css"), _own("page.js")
    environment = Environment(loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["of_name"] = lambda number: f"r{number % COLOURS}" + (" dashed" if number >= COLOURS else "")
    return environment.from_string(_own("page.html")).render(
        runs=runs,
        boards=boards,
        charts=charts,
        recipes=recipes,
        facts=facts,
        galleries=pictures,
        troubles=troubles,
        size=(WIDTH, HEIGHT),
        version=__version__,
        style=style,
        script=script,
        policy=_policy(script),
    )


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
