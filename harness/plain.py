"""How does a frozen record become JSON, and how is it read back, with every mistake named at once?

`to_plain` writes dataclasses as objects, enums as their value (or name, for numbered ones), tuples as lists. A field
whose declared type is a protocol or an abstract class, or a union of several records, is written with the name of its
class: `{"type": "Kill", ...}`; `from_plain` finds that class through `lookup`. Standard library only.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, TypeVar, cast

from harness.errors import Refused

T = TypeVar("T")
Lookup = Callable[[str], type]
TAG = "type"


def to_plain(value: object) -> Any:
    """`value` as what JSON can hold: dict, list, str, int, float, bool, None.

    Numbers that are not finite become "inf", "-inf", "nan", which float fields read back. Raises Refused, naming the
    place, for what has no plain form.
    """
    return _write(value, object, _root(type(value)))


def from_plain(kind: type[T], data: object, lookup: Lookup | None = None) -> T:
    """The `kind` that `data` (as JSON reads it) stands for.

    `lookup(name)` gives the class of a `{"type": name}`; it may raise Refused or KeyError for a name it does not know.
    Raises one Refused that names every mistake with its path: "scenario.workload.rate_hz: expected a number, got 'x'".
    """
    reader = _Reader(lookup)
    value = reader.read(kind, data, _root(kind))
    if reader.mistakes:
        raise Refused("\n".join(reader.mistakes))
    return cast(T, value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean "rate_hz"?' where something close is known, else ''.

    >>> did_you_mean("rate", ["rate_hz", "floor"])
    '; did you mean "rate_hz"?'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""


# ---- writing -------------------------------------------------------------------------------------------------------


def _write(value: object, declared: Any, path: str) -> Any:
    if value is None or (isinstance(value, str | bool) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return _enum_word(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _write_record(value, declared, path)
    if isinstance(value, Mapping):
        inner = _arguments(declared, 2)[1]
        return {_key(key, path): _write(item, inner, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, AbstractSet):
        inner = _arguments(declared, 1)[0]
        return sorted((_write(item, inner, path) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        kinds = _item_types(declared, len(value))
        return [_write(item, kinds[at], f"{path}[{at}]") for at, item in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    raise Refused(
        f"{path}: a {type(value).__name__} has no plain form: {value!r:.80}",
        cure="use numbers, words, tuples, mappings and frozen dataclasses",
    )


def _write_record(value: Any, declared: Any, path: str) -> dict[str, Any]:
    kind: Any = type(value)
    hints = _hints(kind)
    record: dict[str, Any] = {TAG: kind.__name__} if _tagged(declared) else {}
    for field in _fields(kind):
        if field.name in record:
            raise Refused(f"{path}: {kind.__name__} has a field named {TAG!r}, which names its class")
        record[field.name] = _write(getattr(value, field.name), hints[field.name], f"{path}.{field.name}")
    return record


def _key(key: object, path: str) -> str:
    if isinstance(key, enum.Enum):
        return str(_enum_word(key))
    if isinstance(key, str) or (isinstance(key, int) and not isinstance(key, bool)):
        return str(key)
    raise Refused(f"{path}: a key must be a word or a whole number, not {key!r}")


def _enum_word(value: enum.Enum) -> str:
    """Words of a StrEnum are themselves; numbered enums are written by name, which says more than 1."""
    return value.value if isinstance(value, str) else value.name.lower()


# ---- reading -------------------------------------------------------------------------------------------------------


class _Mistake:
    """Stands for a value that could not be read, so that reading goes on and finds the other mistakes too."""


_WRONG = _Mistake()


class _Reader:
    def __init__(self, lookup: Lookup | None) -> None:
        self.lookup = lookup
        self.mistakes: list[str] = []

    def wrong(self, path: str, what: str) -> _Mistake:
        self.mistakes.append(f"{path}: {what}")
        return _WRONG

    def read(self, kind: Any, data: Any, path: str) -> Any:
        if kind is Any or kind is object:
            return data
        if kind is None or kind is type(None):
            return None if data is None else self.wrong(path, f"expected nothing, got {_show(data)}")
        origin = typing.get_origin(kind)
        if origin in (typing.Union, types.UnionType):
            return self.read_union(kind, data, path)
        if origin is typing.Literal:
            allowed = typing.get_args(kind)
            return data if data in allowed else self.wrong(path, _expected(_one_of(allowed), data))
        if isinstance(origin, type):
            return self.read_container(kind, origin, data, path)
        if isinstance(kind, type):
            return self.read_class(kind, data, path)
        raise TypeError(f"{path}: a field of type {kind!r} cannot be read")

    def read_class(self, kind: type, data: Any, path: str) -> Any:
        if issubclass(kind, enum.Enum):
            return self.read_enum(kind, data, path)
        if dataclasses.is_dataclass(kind):
            return self.read_record(kind, data, path)
        if _abstract(kind):
            return self.read_tagged((kind,), data, path)
        if kind is bool:
            return data if isinstance(data, bool) else self.wrong(path, _expected("true or false", data))
        if kind is int:
            whole = isinstance(data, int) and not isinstance(data, bool)
            return data if whole else self.wrong(path, _expected("a whole number", data))
        if kind is float:
            if isinstance(data, str) and data in ("inf", "-inf", "nan"):
                return float(data)
            good = isinstance(data, int | float) and not isinstance(data, bool)
            return float(data) if good else self.wrong(path, _expected("a number", data))
        if kind is str:
            return data if isinstance(data, str) else self.wrong(path, _expected("a word", data))
        if issubclass(kind, PurePath):
            return kind(data) if isinstance(data, str) else self.wrong(path, _expected("a path", data))
        if kind in (tuple, list, dict, frozenset):
            return self.read_container(kind, kind, data, path)
        raise TypeError(f"{path}: a field of type {kind.__name__} cannot be read")

    def read_enum(self, kind: type[enum.Enum], data: Any, path: str) -> Any:
        members = {_enum_word(member): member for member in kind}
        if isinstance(data, str) and data in members:
            return members[data]
        hint = did_you_mean(data, members) if isinstance(data, str) else ""
        return self.wrong(path, _expected(_one_of(members), data) + hint)

    def read_container(self, kind: Any, origin: type, data: Any, path: str) -> Any:
        if issubclass(origin, Mapping):
            if not isinstance(data, Mapping):
                return self.wrong(path, _expected("an object", data))
            key_kind, item_kind = _arguments(kind, 2)
            return {
                self.read_key(key_kind, key, path): self.read(item_kind, item, f"{path}.{key}")
                for key, item in data.items()
            }
        if not isinstance(data, list | tuple):
            return self.wrong(path, _expected("a list", data))
        if issubclass(origin, tuple):
            arguments = typing.get_args(kind)
            fixed = len(arguments) if arguments and arguments[-1] is not Ellipsis else None
            if fixed is not None and len(data) != fixed:
                return self.wrong(path, f"expected {fixed} items, got {len(data)}")
        kinds = _item_types(kind, len(data))
        items = [self.read(kinds[at], item, f"{path}[{at}]") for at, item in enumerate(data)]
        if any(item is _WRONG for item in items):
            return _WRONG
        if issubclass(origin, AbstractSet):
            return frozenset(items)
        return items if origin is list else tuple(items)

    def read_key(self, kind: Any, key: str, path: str) -> Any:
        if kind is int:
            try:
                return int(key)
            except ValueError:
                return self.wrong(path, _expected("a whole number as key", key))
        return self.read(kind, key, f"{path} (key)")

    def read_union(self, kind: Any, data: Any, path: str) -> Any:
        arms = typing.get_args(kind)
        if data is None and type(None) in arms:
            return None
        arms = tuple(arm for arm in arms if arm is not type(None))
        records = tuple(arm for arm in arms if _recordlike(arm))
        if isinstance(data, Mapping) and records:
            return self.read_tagged(records, data, path) if _tagged(kind) else self.read(records[0], data, path)
        tries = []
        for arm in arms:
            attempt = _Reader(self.lookup)
            value = attempt.read(arm, data, path)
            if not attempt.mistakes:
                return value
            tries.append(attempt.mistakes)
        if len(tries) == 1:
            self.mistakes.extend(tries[0])
            return _WRONG
        return self.wrong(path, _expected(" or ".join(_name(arm) for arm in arms), data))

    def read_tagged(self, kinds: Sequence[Any], data: Any, path: str) -> Any:
        wanted = " or ".join(_name(kind) for kind in kinds)
        if not isinstance(data, Mapping):
            return self.wrong(path, _expected(f'an object with "{TAG}" ({wanted})', data))
        name = data.get(TAG)
        if not isinstance(name, str):
            return self.wrong(path, f'"{TAG}" is missing: which {wanted} is it?')
        found = self.find(name, kinds, path)
        if found is None:
            return _WRONG
        if not any(_fits(found, kind) for kind in kinds):
            return self.wrong(path, f"expected a {wanted}, and {name} is none")
        return self.read_record(found, {key: item for key, item in data.items() if key != TAG}, path)

    def find(self, name: str, kinds: Sequence[Any], path: str) -> type | None:
        concrete = {kind.__name__: kind for kind in kinds if not _abstract(kind)}
        if name in concrete:
            return cast(type, concrete[name])
        if self.lookup is None or len(concrete) == len(kinds):
            self.wrong(path, f'unknown {TAG} "{name}"{did_you_mean(name, concrete)}')
            return None
        try:
            return self.lookup(name)
        except Refused as refusal:
            self.wrong(path, refusal.message)
        except KeyError:
            self.wrong(path, f'unknown {TAG} "{name}"')
        return None

    def read_record(self, kind: type, data: Any, path: str) -> Any:
        if not dataclasses.is_dataclass(kind):
            return self.wrong(path, f"{kind.__name__} is no record")
        if not isinstance(data, Mapping):
            return self.wrong(path, _expected(f"an object ({kind.__name__})", data))
        hints = _hints(kind)
        fields = {field.name: field for field in _fields(kind)}
        before = len(self.mistakes)
        for name in data:
            if name not in fields:
                self.wrong(path, f'unknown field "{name}"{did_you_mean(str(name), fields)}')
        values = {}
        for name, field in fields.items():
            if name in data:
                values[name] = self.read(hints[name], data[name], f"{path}.{name}")
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                self.wrong(path, f'field "{name}" is missing')
        if len(self.mistakes) > before:
            return _WRONG
        try:
            return kind(**values)
        except Refused as refusal:
            return self.wrong(path, refusal.message)
        except ValueError as error:
            return self.wrong(path, str(error))


# ---- types ---------------------------------------------------------------------------------------------------------


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(kind) if field.init)


def _abstract(kind: Any) -> bool:
    return isinstance(kind, type) and (bool(getattr(kind, "_is_protocol", False)) or inspect.isabstract(kind))


def _recordlike(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or _abstract(kind))


def _tagged(declared: Any) -> bool:
    """Whether a value of that declared type is written with the name of its class."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        records = [arm for arm in typing.get_args(declared) if _recordlike(arm)]
        return len(records) > 1 or any(_abstract(arm) for arm in records)
    return _abstract(declared)


def _fits(kind: type, wanted: Any) -> bool:
    """Whether a class is the wanted one, or has every public name of the wanted protocol."""
    if not _abstract(wanted):
        return kind is wanted
    names = {name for name in (*vars(wanted), *vars(wanted).get("__annotations__", ())) if not name.startswith("_")}
    has = {*dir(kind), *(field.name for field in _fields(kind))} if dataclasses.is_dataclass(kind) else set(dir(kind))
    return names <= has


def _arguments(kind: Any, count: int) -> tuple[Any, ...]:
    arms = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        arms = next((typing.get_args(arm) for arm in arms if len(typing.get_args(arm)) == count), ())
    return arms if len(arms) == count else (object,) * count


def _item_types(kind: Any, count: int) -> Sequence[Any]:
    arms = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        arms = next((typing.get_args(arm) for arm in arms if typing.get_args(arm)), ())
    if (arms and arms[-1] is Ellipsis) or (len(arms) == 1 and arms):
        return (arms[0],) * count
    return arms if len(arms) == count else (object,) * count


# ---- words ---------------------------------------------------------------------------------------------------------


def _root(kind: type) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def _name(kind: Any) -> str:
    plain = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    return plain.get(kind) or str(getattr(kind, "__name__", kind))


def _one_of(words: Iterable[object]) -> str:
    return "one of " + ", ".join(str(word) for word in words)


def _expected(what: str, data: object) -> str:
    return f"expected {what}, got {_show(data)}"


def _show(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."
