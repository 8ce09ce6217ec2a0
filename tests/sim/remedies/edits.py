"""How a remedy is taken out of the running process: a line of one function is replaced, by its text, and put back.

An edit names the text that goes and what stands in its place, not the file or the class, so that it outlives functions
being moved; white space counts as any white space. The text must be there once in the rooms of the engine, within one
function: where it is not, the code has changed and `RemedyMovedError` says what to do. The function object stays what
it is and gets other code, so that whoever has imported it already runs the other code too.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Final

ROOMS: Final = ("raftpay.raft", "raftpay.storage", "raftpay.node", "raftpay.machine")


class RemedyMovedError(Exception):
    """The code that an edit names is not there, or not clearly so."""


@dataclass(frozen=True, slots=True)
class Edit:
    """text: what goes. instead: what stands there then. within: the function's name, where the text alone is in two."""

    text: str
    instead: str
    within: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    module: ModuleType
    function: str  # its qualified name
    start: int
    stop: int


@cache
def _modules() -> tuple[ModuleType, ...]:
    found = []
    for name in ROOMS:
        module = importlib.import_module(name)
        found.append(module)
        for info in pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}."):
            found.append(importlib.import_module(info.name))
    return tuple(found)


@cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


@cache
def _codes(module: ModuleType) -> dict[str, CodeType]:
    return _compiled(_source(module), str(module.__file__))


@cache
def _compiled(source: str, name: str) -> dict[str, CodeType]:
    return _functions_of(compile(source, name, "exec"))


def _functions_of(code: CodeType) -> dict[str, CodeType]:
    """Functions of a module and methods of its classes, by qualified name; what they define inside is theirs."""
    found: dict[str, CodeType] = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                found[constant.co_qualname] = constant
            else:  # the body of a class
                found |= _functions_of(constant)
    return found


def _lines(code: CodeType) -> tuple[int, int]:
    last = max(
        [line for _, _, line in code.co_lines() if line is not None]
        + [_lines(inner)[1] for inner in code.co_consts if isinstance(inner, CodeType)]
    )
    return code.co_firstlineno, last


@cache
def find(edit: Edit) -> _Place:
    """The one place of an edit's text. Raises RemedyMovedError."""
    pattern = re.compile(r"\s+".join(map(re.escape, edit.text.split())))
    places = []
    for module in _modules():
        source = _source(module)
        for match in pattern.finditer(source):
            line = source.count("\n", 0, match.start()) + 1
            for name, code in _codes(module).items():
                first, last = _lines(code)
                if first <= line <= last and f".{name}".endswith(f".{edit.within}" if edit.within else ""):
                    places.append(_Place(module, name, match.start(), match.end()))
    if len(places) != 1:
        where = ", ".join(f"{place.module.__name__}.{place.function}" for place in places) or "nowhere"
        raise RemedyMovedError(
            f"the text {edit.text!r} was expected in one function{' ' + edit.within if edit.within else ''} of "
            f"{', '.join(ROOMS)}, and is {where}. Take the remedy out where it is now, or say why it is gone"
        )
    return places[0]


def _function(module: ModuleType, qualified_name: str) -> FunctionType:
    owner: object = module
    for name in qualified_name.split("."):
        owner = vars(owner)[name]
    if isinstance(owner, property):
        owner = owner.fget
    function = inspect.unwrap(getattr(owner, "__func__", owner))
    assert isinstance(function, FunctionType), qualified_name
    return function


@contextmanager
def taken_out(edits: Sequence[Edit]) -> Iterator[None]:
    """Have the code of this process be without what the edits name, until the block ends. Raises RemedyMovedError."""
    by_module: dict[ModuleType, list[tuple[_Place, Edit]]] = {}
    for edit in edits:
        place = find(edit)
        by_module.setdefault(place.module, []).append((place, edit))
    changed: list[tuple[FunctionType, CodeType]] = []
    for module, pairs in by_module.items():
        source = _source(module)
        for place, edit in sorted(pairs, key=lambda pair: pair[0].start, reverse=True):
            source = source[: place.start] + edit.instead + source[place.stop :]
        codes = _compiled(source, str(module.__file__))
        for name in {place.function for place, _ in pairs}:
            function = _function(module, name)
            assert function.__code__.co_code == _codes(module)[name].co_code, f"{name} is not what its file says"
            changed.append((function, codes[name]))
    before = [(function, function.__code__) for function, _ in changed]
    for function, code in changed:
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code
