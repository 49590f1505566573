"""YAML files a person wrote: read with line numbers, checked by pydantic, complained about by file, line and field.

Rules: every complaint is one SpecError that says where, what is wrong and what is allowed; all complaints about a
file come at once, so nobody has to fix them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

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
    lines: Mapping[Place, int]

    def where(self, place: Place) -> str:
        """Say file and line of a field, or of the nearest field around it."""
        while place not in self.lines and place:
            place = place[:-1]
        return f"{self.path}:{self.lines.get(place, 1)}"

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
    if node is None:
        raise SpecError(f"{path}: the file is empty. `fedloom init FOLDER` writes a working project")
    return Source(path, data, dict(_lines(path, node, ())))


def validate(model: type[M], source: Source) -> M:
    """Check a file against its model; raises one SpecError with all complaints."""
    if not isinstance(source.data, dict):
        raise SpecError(f"{source.path}:1: expected fields and values, such as `name: heart`")
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        found = [_explain(model, source, item) for item in error.errors()]
        raise SpecError("\n".join(dict.fromkeys(found))) from None


def _lines(path: Path, node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise SpecError(f"{path}:{key.start_mark.line + 1}: '{name}' stands here twice: keep one")
            seen.add(name)
            yield from _lines(path, value, (*place, name))
            yield (*place, name), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(path, value, (*place, index))


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
    return _complaint(source, place, message)


def _complaint(source: Source, place: Place, problem: str) -> str:
    name = ".".join(str(part) for part in place)
    return f"{source.where(place)}: {name + ': ' if name else ''}{problem}"


def _model_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel] | None:
    """Find the pydantic model whose field stands at `place`."""
    found: type[BaseModel] | None = model
    for part in place:
        if found is None:
            return None
        field = found.model_fields.get(str(part))
        found = _first_model(field.annotation) if field else (found if isinstance(part, int) else None)
    return found


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _first_model(part))), None)
