"""The command line, a verb a file. Nothing heavy is imported before a command runs."""

from collections.abc import Mapping
from types import ModuleType

from . import (
    bench,
    compare,
    data,
    ema,
    encode,
    evaluate,
    export,
    likelihood,
    plugins,
    recipes,
    resume,
    run,
    sample,
    train,
    validate,
)

COMMANDS: Mapping[str, ModuleType] = {
    "run": run,
    "train": train,
    "resume": resume,
    "sample": sample,
    "evaluate": evaluate,
    "compare": compare,
    "ema": ema,
    "export": export,
    "encode": encode,
    "likelihood": likelihood,
    "validate": validate,
    "recipes": recipes,
    "plugins": plugins,
    "data": data,
    "bench": bench,
}
