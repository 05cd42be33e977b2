"""Values of a recipe's keys, and those mappings among them that hold no part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import ConfigDict, Field, WithJsonSchema


def span_schema(least: int) -> WithJsonSchema:
    """What a span of training may be: a number of steps of at least 0 or 1, or a text that says images."""
    digit = "" if least == 0 else "(?=.*[1-9])"
    return WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": least,
            "pattern": rf"^{digit}\d+(\.\d+)?\s*[kM]? images$",
            "x-words": f"a number of steps of at least {least}, or a text as '500k images'",
        }
    )


SHORT = "x-short"  # in a schema: the one key of a mapping whose value may stand for the mapping
Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Seed = Annotated[int, Ge(0), Lt(2**63)]  # what torch's generators take
Share = Annotated[float, Ge(0), Lt(1)]
Span = Annotated[int | str, span_schema(least=0)]  # of training: `core.images_of` reads it
CheckpointStep = Annotated[
    int | Literal["best"],
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": "^best$",
            "x-words": "the step of a checkpoint, at least 1, or best",
        }
    ),
]
Factors = Annotated[
    Mapping[str, Annotated[float, Gt(0)]],
    Field(json_schema_extra={"x-words": "a mapping from patterns over names of weights to numbers above 0"}),
]
WeightsName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$",
        json_schema_extra={"x-words": "ema, raw, an average's label as power-0.05, or posthoc-LENGTH"},
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
class InitFrom:
    """The weights that a training starts from.

    Attributes:
        source: A run by folder or by name beside this one, with `@STEP` or `@best` for another than its newest
            checkpoint; a file of weights; or a folder with such files.
        weights: Which of a run's: `ema`, the first average; `raw`, the weights themselves; another average's label, or
            `posthoc-LENGTH`. Of a file that holds averaged and raw ones, `ema` or `raw`. Null is `ema`, or what a file
            holds; other weights than a file holds are refused.
        strict: Refuse weights that lack some of the network's, have others, or have other shapes. With `false` those
            that fit are taken; the rest of the network starts anew.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            SHORT: "source",
            "x-words": "a run, a file of weights, a folder, or a mapping with that as its source",
        }
    )

    source: str
    weights: WeightsName | None = None
    strict: bool = True


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The network that guidance leads away from (autoguidance).

    Attributes:
        run: Its run, by folder or by name beside this one; null is this run itself, at an earlier step.
        step: Which checkpoint, by its step; `best`, the one that `checkpoint.best` keeps; null is the newest.
        weights: `ema`, the first average; `raw`, the weights themselves; another average's label, or `posthoc-LENGTH`.
        labels: Whether it is told the same labels or none.
    """

    run: str | None = None
    step: CheckpointStep | None = None
    weights: WeightsName = "ema"
    labels: Literal["same", "none"] = "same"
