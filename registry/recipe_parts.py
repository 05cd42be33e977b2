"""Parts as a recipe names them, and the mark that says in an annotation which kind stands there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .recipe_values import Count, Reference
from .signature import part_schema


@dataclass(frozen=True)
class PartRef:
    """A part, as a recipe names it.

    Attributes:
        name: The part's name in its registry.
        options: Every option with its value, the defaults filled in; plain YAML values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PartKind:
    """Says in an annotation which kind of part stands there."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(PartRef) if source is PartRef else handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        if schema["type"] != "is-instance":
            return {**handler.resolve_ref_schema(handler(schema)), "x-part": self.kind}
        return part_schema(self.kind)


@dataclass(frozen=True, kw_only=True)
class SamplerRef(PartRef):
    """The sampler with what stands beside its own options.

    Attributes:
        steps: Steps from noise to image.
        guidance: The guidance; a bare number w means `cfg` with that scale, and 1 is none.
        reference: What guidance leads away from; null is the same network without labels.
        grid: The grid of noise levels; null is the one that the sampler declares.
    """

    steps: Count
    guidance: Annotated[PartRef, PartKind("guidance")] = PartRef("cfg", {"scale": 1.0})
    reference: Reference | None = None
    grid: Annotated[PartRef, PartKind("grid")] | None = None
