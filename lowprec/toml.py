"""Writing TOML, which the standard library only reads: strings, numbers, bools, dicts, lists of dicts."""

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(plain: Mapping[str, Any]) -> str:
    """TOML of a mapping; nested mappings become inline tables, lists of them arrays of such."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in plain.items())


def _key(key: str) -> str:
    """A bare key where that is allowed."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _value(value: Any) -> str:
    """One value."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    return repr(value)


def _string(text: str) -> str:
    """A basic string, which escapes as JSON does but for one character."""
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
