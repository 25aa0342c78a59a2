"""Read our own JSON strictly into frozen dataclasses: no missing, unknown or mistyped entry."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from typing import Any, TypeVar

from ...errors import ManifestInvalid

T = TypeVar("T")


def read(cls: type[T], data: object, where: str) -> T:
    """Make a ``cls`` (a dataclass) of a JSON object.

    A field with ``read`` in its metadata is read by that, ``read(data, where)``. Else a field of
    dataclass type is read in turn, by its ``from_dict(data, where)`` if it has one; ``Literal``
    takes its values;
    ``tuple[X, ...]`` and fixed tuples come from lists, ``dict[str, X]`` from objects, unions take
    the first member that fits, ``int`` does not take booleans, and ``float`` takes whole numbers
    unless ``int`` is a member too.

    Raises:
        ManifestInvalid: naming the entry and what is wrong with it.
    """
    if not isinstance(data, dict):
        raise ManifestInvalid(where, f"an object is needed, not {_kind(data)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    unknown = [str(key) for key in data if key not in fields]
    if unknown:
        raise ManifestInvalid(where, f"unknown entry {unknown[0]!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            by = field.metadata.get("read")
            place = f"{where}.{name}"
            values[name] = by(data[name], place) if by else _value(hints[name], data[name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ManifestInvalid(where, f"entry {name!r} is missing")
    try:
        return cls(**values)
    except ManifestInvalid:
        raise
    except (TypeError, ValueError) as error:
        raise ManifestInvalid(where, str(error)) from error


def write(value: Any) -> Any:
    """The JSON form of a dataclass made of what ``read`` understands; a field with ``write`` in its
    metadata is written by that."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: f.metadata.get("write", write)(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    if isinstance(value, (tuple, list)):
        return [write(item) for item in value]
    if isinstance(value, dict):
        return {str(key): write(item) for key, item in value.items()}
    return value


def _value(hint: Any, data: object, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, data, where)
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_dict", None)
        return own(data, where) if own else read(typing.cast(type, hint), data, where)
    if origin is typing.Literal:
        if data not in arguments:
            accepted = ", ".join(map(repr, arguments))
            raise ManifestInvalid(where, f"{data!r} is not accepted: give one of {accepted}")
        return data
    if origin is tuple:
        return _tuple(arguments, data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise ManifestInvalid(where, f"an object is needed, not {_kind(data)}")
        return {str(k): _value(arguments[1], v, f"{where}.{k}") for k, v in data.items()}
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        if abs(data) > sys.float_info.max:
            raise ManifestInvalid(where, "a finite number is needed")
        return float(data)
    if isinstance(data, hint) and not (isinstance(data, bool) and hint is not bool):
        if isinstance(data, float) and not math.isfinite(data):
            raise ManifestInvalid(where, "a finite number is needed")
        return data
    raise ManifestInvalid(where, f"{hint.__name__} is needed, not {_kind(data)}")


def _union(members: tuple[Any, ...], data: object, where: str) -> Any:
    if data is None and type(None) in members:
        return None
    problem: ManifestInvalid | None = None
    for member in members:
        if member is type(None) or (member is float and isinstance(data, int) and int in members):
            continue
        try:
            return _value(member, data, where)
        except ManifestInvalid as error:
            problem = error
    raise problem or ManifestInvalid(where, f"{_kind(data)} is not accepted")


def _tuple(arguments: tuple[Any, ...], data: object, where: str) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise ManifestInvalid(where, f"a list is needed, not {_kind(data)}")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(data)
    elif len(arguments) != len(data):
        raise ManifestInvalid(where, f"{len(arguments)} items are needed, not {len(data)}")
    pairs = zip(arguments, data, strict=True)
    return tuple(_value(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(pairs))


def _kind(data: object) -> str:
    return "null" if data is None else type(data).__name__
