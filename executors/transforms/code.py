"""From the names of a job to the code that they mean. Runs in the processes of the code."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel

from executors.transforms.errors import CannotLoad, NoModel, NoTransform

Function = Callable[[dict[str, Any]], Any]
SUFFIX = ".py"


class Names(NamedTuple):
    """What a job names; either may be empty."""

    transform: str
    model: str


@dataclass(frozen=True, slots=True)
class Code:
    function: Function | None
    model: type[BaseModel] | None
    sha256: str
    """Of the files that it stands in."""


@lru_cache(maxsize=1)
def load(names: Names) -> Code:
    """Raises `CannotLoad`, `NoTransform`, `NoModel`."""
    function, one = _found(names.transform) if names.transform else (None, None)
    model, other = _found(names.model) if names.model else (None, None)
    if names.transform:
        _must_transform(names.transform, function)
    if names.model and not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise NoModel(names.model)
    files = dict.fromkeys(path for module in (one, other) if (path := _file_of(module)))
    sums = sha256(b"".join(path.read_bytes() for path in files))
    return Code(function, model, sums.hexdigest() if files else "")


def _file_of(module: ModuleType | None) -> Path | None:
    """Where it stands, if in a file of its own: what is built in does not, nor what is in a zip."""
    path = Path(getattr(module, "__file__", None) or "")
    return path if path.is_file() else None


def _must_transform(name: str, function: Any) -> None:
    if not callable(function):
        raise NoTransform(name, f"is {type(function).__name__}, no function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise NoTransform(name, "is a coroutine function, and nothing awaits it")
    if inspect.isgeneratorfunction(function):
        raise NoTransform(name, "is a generator, and gives no document")
    try:
        inspect.signature(function).bind({})
    except TypeError as error:
        raise NoTransform(name, f"cannot be called with one document: {error}") from None
    except ValueError:
        pass  # a builtin does not tell


def _found(name: str) -> tuple[Any, ModuleType]:
    where, colon, what = name.rpartition(":")
    if not colon or not where or not what:
        raise CannotLoad(name, "it has no form module:name")
    try:
        module = _file(Path(where)) if where.endswith(SUFFIX) else importlib.import_module(where)
        found: Any = module
        for part in what.split("."):
            found = getattr(found, part)
    except BaseException as error:  # noqa: BLE001 — the user's own code runs here
        raise CannotLoad(name, last_line(error)) from None
    return found, module


def _file(path: Path) -> ModuleType:
    """As a script would be imported: what lies beside it can be imported too."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def last_line(error: BaseException) -> str:
    """As the last line of a traceback."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 — an error of the user's own that cannot say what it is
        lines = []
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
