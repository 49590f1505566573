"""YAML files a person wrote: read with line numbers, checked by pydantic, complained about by file, line and field.

Rules: every complaint is one SpecError that says where, what is wrong and what is allowed; all complaints about a
file come at once, so nobody has to fix them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from fedloom.errors import SpecError, nearest

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed YAML file: its data, and the line every field stands on."""

    path: Path
    data: Any
    lines: Mapping[tuple[str, ...], int]

    def where(self, place: Place) -> str:
        """Say file and line of a field, or of the nearest field around it."""
        keys = tuple(map(str, place))  # a mapping's key may be a number, and pydantic names some of them by text
        while keys not in self.lines and keys:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"

    def error(self, place: Place, problem: str) -> SpecError:
        """Make the complaint about one field."""
        return SpecError(_complaint(self, place, problem))


def read_yaml(path: Path) -> Source:
    """Read a YAML file; raises SpecError when it is missing, malformed, or names a field twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file. `fedloom init FOLDER` writes a working project") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}:{line}: malformed YAML: {error.problem}; check indentation and colons") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(f"{path}:{line}: this is no text file: it holds control characters") from None
    except (ValueError, RecursionError) as error:  # such as the date 2024-13-45, or brackets nested a thousand deep
        raise SpecError(f"{path}: malformed YAML: {str(error) or type(error).__name__}") from None
    if node is None:
        raise SpecError(f"{path}: the file is empty. `fedloom init FOLDER` writes a working project")
    return Source(path, data, dict(_lines(path, node, (), set())))


def validate(model: type[M], source: Source) -> M:
    """Check a file against its model; raises one SpecError with all complaints."""
    if not isinstance(source.data, dict):
        raise SpecError(f"{source.path}:1: expected fields and values, such as `name: heart`")
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        found = [_explain(model, source, item) for item in _own(error.errors())]
        raise SpecError("\n".join(dict.fromkeys(found))) from None


def _lines(
    path: Path, node: yaml.Node, place: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[tuple[str, ...], int]]:
    yield place, node.start_mark.line + 1
    if id(node) in visited:
        return  # an alias of what was read already, perhaps of a node around it
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise SpecError(f"{path}:{key.start_mark.line + 1}: '{name}' stands here twice: keep one")
            seen.add(name)
            yield from _lines(path, value, (*place, name), visited)
            yield (*place, name), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(path, value, (*place, str(index)), visited)


def _own(errors: Sequence[Any]) -> Iterator[Any]:
    """Leave out that a list is too short where its items are what is wrong: pydantic counts good ones only."""
    for item in errors:
        place = item["loc"]
        inside = any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in errors)
        if not (item["type"] == "too_short" and inside):
            yield item


def _explain(model: type[BaseModel], source: Source, item: Any) -> str:
    place: Place = tuple(part for part in item["loc"] if not str(part).endswith("]"))
    kind, message = item["type"], item["msg"]
    if kind == "extra_forbidden":
        owner = _model_at(model, place[:-1])
        allowed = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
        message = f"unknown field; {nearest(str(place[-1]), allowed)}"
    elif kind == "missing":
        message = "this field is required"
    elif kind == "literal_error":
        choices = item["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        message = f"'{item['input']}' is not allowed; {nearest(str(item['input']), choices)}"
    elif kind == "value_error":
        message = str(item["ctx"]["error"])
    elif kind == "too_short":
        message = f"{item['ctx']['min_length']} or more are needed, and there are {item['ctx']['actual_length']}"
    elif kind == "string_pattern_mismatch":
        message = f"'{item['input']}' is not allowed: use lower-case letters, digits, '-' and '_'"
    else:
        message = _EXPECTED.get(kind, message)
    return _complaint(source, place, message)


_EXPECTED = {
    "model_type": "expected fields and values, such as `name: value`",
    "dict_type": "expected fields and values, such as `name: value`",
    "tuple_type": "expected a list, such as [a, b]",
    "frozen_set_type": "expected a list, such as [a, b]",
    "string_type": "expected text: put it in quotes",
}
"""What pydantic says in terms of Python, in terms of the file."""


def _complaint(source: Source, place: Place, problem: str) -> str:
    name = ".".join(str(part) for part in place)
    return f"{source.where(place)}: {name + ': ' if name else ''}{problem}"


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel] | None:
    """Find the pydantic model whose field stands at `place`."""
    found: Any = model
    for part in place:
        owner = _model_in(found)
        if owner is None or get_origin(found) in (tuple, dict):  # `part` is an index, or a key a person chose
            found = owner
        else:
            fields = {field.alias or name: field.annotation for name, field in owner.model_fields.items()}
            found = fields.get(str(part))
    return _model_in(found)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
