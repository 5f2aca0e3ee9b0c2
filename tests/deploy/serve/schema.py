"""What of a value breaks a JSON schema: the keywords that our OpenAPI document uses, no others."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_WORDS = {"title", "description", "default", "format"}
"""Keywords that restrict nothing here."""


def faults(value: Any, schema: Any, document: Any, place: str = "$") -> list[str]:
    """A line for each place at which the value breaks the schema; an unknown keyword is one too."""
    if schema is True:
        return []
    if "type" in schema:
        wrong = _faults("type", schema["type"], value, schema, document, place)
        if wrong:
            return wrong
    found = []
    for keyword, rule in schema.items():
        if keyword in _WORDS:
            continue
        found += _faults(keyword, rule, value, schema, document, place)
    return found


def _faults(
    keyword: str, rule: Any, value: Any, schema: Any, document: Any, place: str
) -> list[str]:
    def below(value: Any, schema: Any, name: object) -> list[str]:
        return faults(value, schema, document, f"{place}.{name}")

    fault = [f"{place}: {value!r} breaks {keyword} {rule!r}"]
    if keyword == "$ref":
        target = document
        for part in rule.removeprefix("#/").split("/"):
            target = target[part]
        return faults(value, target, document, place)
    if keyword == "type":
        is_flag = isinstance(value, bool) and rule in ("integer", "number")
        return fault if is_flag or not isinstance(value, _TYPES[rule]) else []
    if keyword == "anyOf":
        return [] if any(not faults(value, one, document, place) for one in rule) else fault
    if keyword == "const":
        return [] if value == rule else fault
    if keyword == "enum":
        return [] if value in rule else fault
    if keyword == "pattern":
        return [] if not isinstance(value, str) or re.search(rule, value) else fault
    if keyword == "properties":
        return [
            line
            for name, one in rule.items()
            if name in value
            for line in below(value[name], one, name)
        ]
    if keyword == "required":
        return [] if set(rule) <= set(value) else fault
    if keyword == "additionalProperties":
        rest = set(value) - set(schema.get("properties", {}))
        if rule is False:
            return fault if rest else []
        return [line for name in rest for line in below(value[name], rule, name)]
    if keyword == "items":
        return [line for i, one in enumerate(value) for line in below(one, rule, i)]
    if keyword == "prefixItems":
        pairs = enumerate(zip(value, rule, strict=False))
        return [line for i, (one, part) in pairs for line in below(one, part, i)]
    if keyword in ("minItems", "maxItems"):
        return (
            fault if (len(value) < rule) == (keyword == "minItems") and len(value) != rule else []
        )
    if keyword in ("minimum", "maximum"):
        return fault if (value < rule if keyword == "minimum" else value > rule) else []
    if keyword == "maxLength":
        return fault if len(value) > rule else []
    return [f"{place}: unknown keyword {keyword}"]
