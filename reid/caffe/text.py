"""Read and write protobuf's text format without losing fields that the schema does not have.

protobuf's own parser rejects or drops unknown fields. This one keeps their text, comments
included, in ``unknown_text`` of the enclosing message, and the writer puts it back there. It is
kept when the message is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from reid.caffe.schema import FIELDS, UNKNOWN_TEXT, Field, Message
from reid.caffe.tokens import END, NAME, SIGN, STRING, Token, Tokens

_INTEGERS = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1)}
_INTEGERS["int64"] = (-(1 << 63), (1 << 63) - 1)
_TRUTHS = {"true": True, "True": True, "t": True, "1": True}
_TRUTHS |= {"false": False, "False": False, "f": False, "0": False}
_CLOSING = {"{": "}", "<": ">", "[": "]"}
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|[abfnrtv\\'\"?])")
_ESCAPED = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


def parse_into(message: Message, text: str, where: str) -> None:
    """Fill an empty message from text; ``where`` names the text in errors.

    Raises CaffeError with line and column for a syntax error, a value of the wrong type, or a
    repeated field that may occur only once.
    """
    tokens = Tokens(text, where)
    _parse_fields(tokens, message, FIELDS[message.DESCRIPTOR.name], END)


def _parse_fields(tokens: Tokens, message: Any, fields: Any, close: str) -> None:
    seen: set[str] = set()
    while not _at(tokens, close):
        token = tokens.next
        if token.kind != NAME:
            raise tokens.error("a field name" + (f" or {close!r}" if close != END else ""))
        tokens.take()
        field = fields.get(token.text)
        if field is None:
            getattr(message, UNKNOWN_TEXT).append(_unknown(tokens, token))
        else:
            if not field.repeated and field.name in seen:
                raise tokens.error_at(
                    token.start, f"{field.name} is given twice, expected once; remove one"
                )
            seen.add(field.name)
            _parse_field(tokens, message, field)
        tokens.take_sign(";,")
    if close != END:
        tokens.take()


def _at(tokens: Tokens, close: str) -> bool:
    return tokens.next.kind == END if close == END else tokens.next.text == close


def _parse_field(tokens: Tokens, message: Any, field: Field) -> None:
    colon = tokens.take_sign(":")
    if field.message is None and not colon:
        raise tokens.error(f"':' after {field.name}")
    if not (field.repeated and tokens.take_sign("[")):
        _parse_value(tokens, message, field)
        return
    while not tokens.take_sign("]"):
        _parse_value(tokens, message, field)
        if not tokens.take_sign(",") and tokens.next.text != "]":
            raise tokens.error("',' or ']'")


def _parse_value(tokens: Tokens, message: Any, field: Field) -> None:
    if field.message is None:
        value = _scalar(tokens, field)
        if field.repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
        return
    opening = tokens.take_sign("{<")
    if not opening:
        raise tokens.error(f"'{{' after {field.name}")
    inner = getattr(message, field.name)
    if field.repeated:
        inner = inner.add()
    else:
        inner.SetInParent()  # an empty message counts as present
    _parse_fields(tokens, inner, FIELDS[field.message], _CLOSING[opening])


def _unknown(tokens: Tokens, name: Token) -> str:
    """The text of an unknown field, without its indentation."""
    colon = tokens.take_sign(":")
    opening = tokens.take_sign("{<[")
    if opening:
        _skip_to(tokens, _CLOSING[opening])
    elif not colon:
        raise tokens.error(f"':' or '{{' after {name.text}")
    elif tokens.next.kind in (SIGN, END):
        raise tokens.error(f"a value for {name.text}")
    else:
        while tokens.take().kind == STRING and tokens.next.kind == STRING:
            pass
    first, *more = tokens.text[name.start : tokens.end].split("\n")
    indent = tokens.column(name.start) - 1 if more else 0
    moved = (line[:indent].lstrip(" \t") + line[indent:] for line in more)
    return "\n".join([first, *moved])


def _skip_to(tokens: Tokens, close: str) -> None:
    """Skip everything up to the bracket that closes the one just taken."""
    open_brackets = [close]
    while open_brackets:
        token = tokens.next
        if token.kind == END or (token.kind == SIGN and token.text in "}>]"):
            if token.text != open_brackets[-1]:
                raise tokens.error(repr(open_brackets[-1]))
            open_brackets.pop()
        elif token.kind == SIGN and token.text in _CLOSING:
            open_brackets.append(_CLOSING[token.text])
        tokens.take()


def _scalar(tokens: Tokens, field: Field) -> Any:
    """The next value, converted to the field's type."""
    token = tokens.next
    if token.kind in (SIGN, END) or (token.kind == STRING) != (field.kind == "string"):
        raise tokens.error(_expected(field))
    if field.kind == "string":
        return _string(tokens)
    word = re.sub(r"\s", "", tokens.take().text)
    if field.enum is not None:
        value = _enum_value(field.enum, word)
    elif field.kind == "bool":
        value = _TRUTHS.get(word)
    elif field.kind in _INTEGERS:
        value = _integer(word, *_INTEGERS[field.kind])
    else:
        value = _real(word)
    if value is None:
        raise tokens.error(_expected(field), token)
    return value


def _expected(field: Field) -> str:
    if field.enum is not None:
        return f"one of {', '.join(field.enum)} as {field.name}"
    kinds = {"string": "a quoted string", "bool": "true or false", "float": "a number"}
    kinds |= {"double": "a number", "uint32": "an integer of 0 or more"}
    return f"{kinds.get(field.kind, 'an integer')} as {field.name}"


def _enum_value(values: Any, word: str) -> Any:
    return int(word) if word in map(str, values.values()) else values.get(word)


def _integer(word: str, least: int, most: int) -> int | None:
    if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})", word):
        return None
    digits = word.lstrip("-")
    # As in C, a leading 0 means octal.
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    if octal and not re.fullmatch("[0-7]+", digits):
        return None
    value = int(digits, 8 if octal else 0) * (-1 if word[0] == "-" else 1)
    return value if least <= value <= most else None


def _real(word: str) -> float | None:
    """The word as a float, or None; values beyond float32 become infinity, as in protobuf."""
    if not re.fullmatch(r"-?([0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?[fF]?|inf(inity)?|nan)", word, re.I):
        return None
    try:
        return float(word if "n" in word.lower() else word.rstrip("fF"))
    except ValueError:
        return None


def _string(tokens: Tokens) -> str:
    """Adjacent strings joined, with escapes resolved."""
    start, parts = tokens.next.start, []
    while tokens.next.kind == STRING:
        token = tokens.take()
        raw = token.text[1:-1].encode()
        if b"\\" in _ESCAPE.sub(b"", raw):
            raise tokens.error("a string with valid escapes", token)
        parts.append(_ESCAPE.sub(_unescape, raw))
    try:
        return b"".join(parts).decode()
    except UnicodeDecodeError:
        raise tokens.error_at(start, "expected UTF-8 text, found other bytes") from None


def _unescape(matched: re.Match[bytes]) -> bytes:
    code = matched[1]
    if code[:1] == b"x":
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit():
        return bytes([int(code, 8) & 0xFF])
    return bytes([_ESCAPED[code[0]]])


def format_message(message: Message) -> str:
    """The message as text: known fields by number, then unknown fields as they were read.

    Parsing the text gives an equal message.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Any) -> Iterator[str]:
    fields = FIELDS[message.DESCRIPTOR.name]
    for descriptor, value in message.ListFields():
        field = fields.get(descriptor.name)
        if field is None:
            continue
        for item in value if field.repeated else (value,):
            if field.message is None:
                yield f"{field.name}: {_shown(field, item)}"
            else:
                yield f"{field.name} {{"
                yield from (f"  {line}" for line in _lines(item))
                yield "}"
    for unknown in getattr(message, UNKNOWN_TEXT):
        yield from unknown.split("\n")


def _shown(field: Field, value: Any) -> str:
    if field.enum is not None:
        return next(name for name, number in field.enum.items() if number == value)
    if field.kind == "string":
        return _quoted(value)
    if field.kind == "bool":
        return "true" if value else "false"
    if field.kind == "double":
        return repr(value)
    if field.kind == "float":
        # The shortest digits that read back to the same float32.
        return str(np.float32(value)).removesuffix(".0")
    return str(value)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    shown = (c if c.isprintable() else "".join(f"\\{b:03o}" for b in c.encode()) for c in escaped)
    return f'"{"".join(shown)}"'
