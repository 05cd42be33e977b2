"""Values of a recipe's keys, and those mappings among them that hold no part."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt
from pydantic import Field, WithJsonSchema

Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Seed = Annotated[int, Ge(0), Lt(2**63)]  # what torch's generators take
Share = Annotated[float, Ge(0), Lt(1)]
Stretch = Annotated[  # of training: `core.images_of` reads it
    int | str,
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\d+(\.\d+)?\s*[kM]? images$",
            "x-words": "a number of steps of at least 0, or a text as '500k images'",
        }
    ),
]
FolderName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$",
        max_length=200,
        json_schema_extra={"x-words": "a folder's name: up to 200 letters, digits, '.', '_', '-', none of '.-' first"},
    ),
]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The network that guidance leads away from (autoguidance).

    Attributes:
        run: Its run, by folder or by name beside this one; null is this run itself, at an earlier step.
        step: Which checkpoint; null is the newest.
        weights: The averaged weights or the raw ones.
        labels: Whether it is told the same labels or none.
    """

    run: str | None = None
    step: Count | None = None
    weights: Literal["ema", "raw"] = "ema"
    labels: Literal["same", "none"] = "same"
