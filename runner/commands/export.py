"""`dmf export`: the weights of a run in one safetensors file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .flags import add_checkpoint, add_runs, add_weights, check_writable

if TYPE_CHECKING:
    from ...registry import Recipe
    from ..folder import RunFolder
    from ..weights import Weights

HELP = "write the weights of a run into one safetensors file, from a checkpoint of any number of ranks"
ENDING = ".safetensors"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_checkpoint(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file, named *.safetensors")
    add_weights(parser)
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    add_runs(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from safetensors.torch import save

    from ...files.writing import write_bytes
    from ...registry import UserError, read
    from ..console import start_console
    from ..outputs import Outputs
    from ..runs import find_checkpoint, weights_of
    from ..weights import find_weights

    start_console(0)
    check_writable(args.out, (ENDING,))
    if args.out.exists() and not args.force:
        raise UserError(f"{args.out} is there already; give another name, or --force to write over it")
    folder, step = find_checkpoint(args.run, args.runs)
    recipe = read(folder.recipe)
    weights = find_weights(folder, weights_of(args.weights, recipe), step)
    # a tied weight stands under each of its names: who reads the file need not know of ties
    tensors = {name: value.clone() for name, value in weights.read().items()}
    content = save(tensors, about(folder, recipe, weights))
    count = sum(value.numel() for value in tensors.values())
    with Outputs() as files:
        if files.write(args.out, lambda: write_bytes(args.out, content)):
            print(
                f"{args.out}: {weights.kind} weights of step {weights.step}, {len(tensors)} tensors, {count:,} numbers"
            )
            print(_example(args.out, recipe))
    return 0


def about(folder: RunFolder, recipe: Recipe, weights: Weights) -> dict[str, str]:
    """What the file says of itself, all text: enough to make the network, and to say in a protocol what it is."""
    from ...files.writing import read_json

    facts: dict[str, str] = read_json(folder.facts) or {}
    told = [name for name in facts if name.startswith(("dataset.", "codec.", "git.", "version.dmf"))]
    return {
        "format": "pt",
        "dmf.recipe": json.dumps(recipe.as_dict(), sort_keys=True),
        "dmf.recipe_digest": recipe.digest(),
        "dmf.spec": json.dumps(read_json(folder.spec)),
        "dmf.run": recipe.name,
        "dmf.step": str(weights.step),
        "dmf.images_seen": str(weights.step * recipe.train.batch_size),
        "dmf.weights": weights.kind,
        "dmf.sha256": weights.sha256,
        **{f"dmf.{name}": facts[name] for name in told},
    }


def _example(file: Path, recipe: Recipe) -> str:
    part = recipe.backbone
    options = ", ".join(f"{name}={value!r}" for name, value in part.options.items())
    return (
        "  from safetensors import safe_open\n"
        f"  with safe_open({str(file)!r}, 'pt') as file:\n"
        "      weights = {name: file.get_tensor(name) for name in file.keys()}\n"
        "      recipe, spec = file.metadata()['dmf.recipe'], file.metadata()['dmf.spec']\n"
        f"  network.load_state_dict(weights)  # {part.name}({options})"
    )
