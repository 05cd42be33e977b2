"""The command line, a verb a file. Nothing heavy is imported before a command runs."""

from collections.abc import Mapping
from types import ModuleType

from . import bench, compare, data, encode, evaluate, likelihood, plugins, recipes, run, sample, train, validate

COMMANDS: Mapping[str, ModuleType] = {
    "run": run,
    "train": train,
    "sample": sample,
    "evaluate": evaluate,
    "compare": compare,
    "encode": encode,
    "likelihood": likelihood,
    "validate": validate,
    "recipes": recipes,
    "plugins": plugins,
    "data": data,
    "bench": bench,
}
