"""As much of JSON Schema (2020-12) as the profile's schema uses; a keyword that is not known here is an error."""

from __future__ import annotations

import re
from typing import Any

#: What only describes.
ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "default", "format"}
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def problems(value: Any, schema: Any, root: dict[str, Any], path: str = "") -> list[str]:
    """Every contradiction between `value` and `schema`, a part of `root`, with its path."""
    if isinstance(schema, bool):
        return [] if schema else [f"{path}: not allowed"]
    found: list[str] = []
    for keyword, expected in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            found += problems(value, root["$defs"][expected.removeprefix("#/$defs/")], root, path)
        elif keyword == "oneOf":
            fitting = sum(not problems(value, option, root, path) for option in expected)
            found += [] if fitting == 1 else [f"{path}: fits {fitting} of oneOf"]
        elif keyword == "properties":
            for name, part in expected.items():
                if name in value:
                    found += problems(value[name], part, root, f"{path}.{name}")
        elif keyword == "additionalProperties":
            assert expected is False
            found += [f"{path}.{name}: not known" for name in value if name not in schema["properties"]]
        elif keyword == "items":
            for i, item in enumerate(value):
                found += problems(item, expected, root, f"{path}[{i}]")
        elif not holds(keyword, expected, value):
            found.append(f"{path}: {value!r:.60} against {keyword} {expected!r}")
    return found


def holds(keyword: str, expected: Any, value: Any) -> bool:
    """Whether one assertion about a value holds; those about another type do."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    checks: dict[str, Any] = {
        "type": lambda: any(is_of(value, name) for name in ([expected] if isinstance(expected, str) else expected)),
        "const": lambda: type(value) is type(expected) and value == expected,
        "enum": lambda: value in expected,
        "required": lambda: all(name in value for name in expected),
        "pattern": lambda: not isinstance(value, str) or re.search(expected, value) is not None,
        "minimum": lambda: not is_number or value >= expected,
        "maximum": lambda: not is_number or value <= expected,
        "minLength": lambda: not isinstance(value, str) or len(value) >= expected,
        "minItems": lambda: not isinstance(value, list) or len(value) >= expected,
        "maxItems": lambda: not isinstance(value, list) or len(value) <= expected,
    }
    return bool(checks[keyword]())


def is_of(value: Any, name: str) -> bool:
    """Whether a value has a type; truth values are no numbers."""
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
