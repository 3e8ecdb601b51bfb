"""What a typed config is made of: ranges of fields, and nested plain data turned into config classes."""
from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import sys
import typing
from dataclasses import field
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union


LARGEST_INT = 2**31 - 1


class ConfigError(ValueError):
    """A key, value or file that the user gave cannot be used; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # whatever was typed


def limit(
    low: float = -math.inf, high: float = sys.float_info.max, choices: Sequence[str] = (), size: int = 0
) -> Any:
    return field(metadata={"low": low, "high": high, "choices": tuple(choices), "size": size})


def positive(size: int = 0) -> Any:
    return limit(low=sys.float_info.min, size=size)  # the smallest number above zero


def non_negative(size: int = 0) -> Any:
    return limit(low=0.0, size=size)


def rows(size: int) -> Any:
    """A list, maybe empty, of lists of ``size`` numbers."""
    return field(metadata={"size": size, "empty": True})


def between(low: float, high: float) -> Any:
    return limit(low=low, high=high)


def choice(*names: str) -> Any:
    return limit(choices=names)


def one_of(classes: Dict[str, type]) -> Any:
    """A group whose ``name`` says which of the classes it is."""
    return field(metadata={"classes": classes})


def nearest(name: str, known: Sequence[str]) -> str:
    """'did you mean x?' for the closest of the known names, else the list of them."""
    # A nested name often differs only in its last part; compare those first.
    leaves = {key.rsplit(".", 1)[-1]: key for key in known}
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if not close:
        close = [leaves[leaf] for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(leaves), 1, 0.6)]
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(sorted(known))


def flatten(raw: Mapping[str, Any], prefix: str = "") -> List[str]:
    """Dotted names of every key of nested data."""
    keys: List[str] = []
    for key, value in raw.items():
        keys.append(prefix + str(key))
        if isinstance(value, Mapping):
            keys += flatten(value, f"{prefix}{key}.")
    return keys


_hints_of = functools.lru_cache(maxsize=None)(typing.get_type_hints)  # it parses source text; a config is typed often


def typed(cls: type, raw: Any, path: str) -> Any:
    """Builds a config class from nested plain data, or raises :class:`ConfigError`; ``path`` is its dotted name."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path or 'the config'} must be a group of keys, not {raw!r}")
    names = [f.name for f in dataclasses.fields(cls)]
    for key in raw:
        if key not in names:
            raise ConfigError(f"unknown key {_join(path, key)}; {nearest(str(key), names)}")
    missing = [name for name in names if name not in raw]
    if missing:
        raise ConfigError(f"missing key {_join(path, missing[0])}: add it to the YAML file or the command line")
    hints = _hints_of(cls)
    values = {
        f.name: _convert(raw[f.name], hints[f.name], _join(path, f.name), f.metadata)
        for f in dataclasses.fields(cls)
    }
    return cls(**values)


def free_groups(cls: type, prefix: str = "") -> List[str]:
    """Dotted names of a config class's groups of keys that it does not name itself."""
    found: List[str] = []
    for name, hint in _hints_of(cls).items():
        if typing.get_origin(hint) is dict:
            found.append(prefix + name)
        elif dataclasses.is_dataclass(hint):
            found += free_groups(hint, f"{prefix}{name}.")
    return found


def check_pairs(path: str, pairs: Dict[str, Tuple[float, ...]], what: str) -> None:
    """Raises where a range, two positive numbers, is none."""
    for key, (low, *high) in pairs.items():
        if len(high) != 1 or not 0.0 < low <= high[0]:
            raise ConfigError(f"{path}.{key}={[low] + high}: write two {what}, 0 < low <= high")


def _by_name(raw: Any, path: str, known: Dict[str, type]) -> type:
    """The class of a group whose ``name`` says which it is."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path} must be a group of keys, not {raw!r}")
    name = raw.get("name")
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{path}.name={name} is not known; {nearest(str(name), list(known))}")
    return known[name]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(value: Any, hint: Any, path: str, limits: Mapping[str, Any]) -> Any:
    if limits.get("classes"):
        hint = _by_name(value, path, limits["classes"])
    if dataclasses.is_dataclass(hint):
        return typed(hint, value, path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return "" if value == "" else _convert(value, int, path, limits)
    if origin is tuple:
        nested = typing.get_origin(args[0]) is tuple
        if not isinstance(value, (list, tuple)) or not (value or nested and limits.get("empty")):
            raise ConfigError(f"{path}={value!r} must be a list{' of lists' * nested}, e.g. {path}={'[[1,2]]' if nested else '[1,2]'}")
        if limits.get("size") and not nested and len(value) != limits["size"]:
            raise ConfigError(f"{path}={list(value)}: {limits['size']} numbers are needed")
        return tuple(_convert(item, args[0], path, limits) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}={value!r} must be a group of keys")
        if not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{path}={value!r}: its keys must be names")
        return {key: _convert(item, args[1], _join(path, key), limits) for key, item in value.items()}
    return _scalar(value, hint, path, limits)


def _scalar(value: Any, hint: Any, path: str, limits: Mapping[str, Any]) -> Any:
    if hint is Any:  # for somebody else's constructor
        if not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{path}={value!r} must be a number, True, False or text")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf * (1 if value > 0 else -1)
    if hint is str and value is None:
        value = ""
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # experiment=42
    if type(value) is not hint:
        kind = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}[hint]
        raise ConfigError(f"{path}={value!r} must be {kind}")
    if hint in (int, float):
        low, high = limits.get("low", -math.inf), limits.get("high", sys.float_info.max)
        if not low <= value <= high:
            raise ConfigError(f"{path}={value} is out of range; allowed: {_interval(low, high)}")
        if hint is int and value > LARGEST_INT or hint is float and not math.isfinite(value):
            raise ConfigError(f"{path}={value} is out of range; allowed: {f'up to {LARGEST_INT}' if hint is int else 'finite numbers'}")
    choices = limits.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{path}={value!r} is not known; write one of: {', '.join(filter(None, choices))}")
    return value


def _interval(low: float, high: float) -> str:
    if low == sys.float_info.min:
        return "above 0"
    if high == sys.float_info.max:
        return f"{low:g} or more"
    return f"{low:g} to {high:g}"
