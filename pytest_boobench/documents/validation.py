"""Room 0: a tree of Nodes -> a pydantic model, and pydantic's errors -> problems with the file's lines and paths.

A FileModel parses one mapping of a file. It notes each wrong value and continues with the rest: one reading finds all
problems of a file, and checks across fields still run. Values that Python code passes to a model are not validated.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

from pytest_boobench.documents.yaml_tree import Node, Problems, looks_like_number, suggest
from pytest_boobench.units import parse_duration, parse_percent


class Located(dict[str, Any]):
    """A mapping's values for pydantic, with their Node."""

    def __init__(self, node: Node, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.node = node


class _Place(NamedTuple):
    """What a FileModel passes to its fields: a value and its Node."""

    node: Node
    value: Any


def locate(node: Node) -> Any:
    """Return a Node's value for pydantic; mappings keep their Nodes."""
    if isinstance(node.value, tuple):
        return [locate(item) for item in node.value]
    if isinstance(node.value, dict):
        return Located(node, {key: locate(child) for key, child in node.value.items()})
    return node.value


# --- errors


def unexpected(words: str, *, text: bool = False) -> PydanticCustomError:
    """Return the error "expected ``words``, got …". ``text`` suggests quotes for a number or a boolean."""
    return PydanticCustomError("unexpected", "expected {words}", {"words": words, "text": text})


def _said(text: str) -> PydanticCustomError:
    return PydanticCustomError("said", "{said}", {"said": text})


def note(error: ValidationError, node: Node, problems: Problems, words: str) -> None:
    """Note pydantic's errors in a Node's value, each at the Node that its ``loc`` names.
    ``words`` describe a right value, for when the whole value has the wrong type."""
    for one in error.errors(include_url=False):
        place = node.find(one["loc"])
        problems.add(place, _explain(one.get("ctx", {}), place, words))


def _explain(told: Mapping[str, Any], node: Node, words: str) -> str:
    if "said" in told:
        return str(told["said"])
    if told.get("text") and isinstance(node.value, bool | int | float):
        return f'expected text, got {node.text}; write "{node.text}" in quotes'
    got = node.describe()
    if isinstance(node.value, str) and looks_like_number(node.value):
        got = f"{got} as text; write {node.text} without quotes"
    return f"expected {told.get('words', words)}, got {got}"


# --- types of values, as the metadata of an annotation


@dataclass(frozen=True, slots=True)
class Expected:
    """What one place of a file may hold: in words, as pydantic's core schema, and as JSON Schema if that differs."""

    words: str
    schema: CoreSchema
    json: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic. Ignores the annotated type, so that a file cannot give null for ``int | None``."""
        return self.schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic."""
        return handler(schema) if self.json is None else dict(self.json() if callable(self.json) else self.json)


def expect(words: str, schema: CoreSchema, *, text: bool = False, json: Mapping[str, Any] | None = None) -> Expected:
    """Return a type of pydantic's own. Each of its errors says "expected ``words``"."""
    error = unexpected(words, text=text)
    wrapped = core_schema.custom_error_schema(
        schema,
        custom_error_type=error.type,
        custom_error_message=error.message_template,
        custom_error_context=error.context,
    )
    return Expected(words, wrapped, json)


def parsed(
    words: str, parse: Callable[[Any, Problems], Any], json: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
) -> Expected:
    """Return a type that ``parse`` reads. It raises ValueError, with a text if "expected, got" does not fit."""

    def read(given: Any, info: ValidationInfo[Any]) -> Any:
        try:
            return parse(given, info.context)
        except ValueError as error:
            raise (_said(str(error)) if str(error) else unexpected(words)) from None

    return Expected(words, core_schema.with_info_plain_validator_function(read), json)


def checked(inner: Expected, check: Callable[[Any], Any], json: Mapping[str, Any] | None = None) -> Expected:
    """Return ``inner`` with a function that then changes or refuses its values, as in `parsed`."""
    then = parsed(inner.words, lambda given, _: check(given), {})
    return Expected(inner.words, core_schema.chain_schema([inner.schema, then.schema]), json or inner.json)


def whole(least: int, most: int | None = None) -> Expected:
    """A whole number between two inclusive bounds."""
    return expect(f"a whole number {_span(least, most)}", core_schema.int_schema(strict=True, ge=least, le=most))


def number(least: int | None = None, most: int | None = None) -> Expected:
    """A finite number between two inclusive bounds; it stays int or float, as written."""
    real = core_schema.float_schema(strict=True, ge=least, le=most, allow_inf_nan=False)
    either = core_schema.union_schema([core_schema.int_schema(strict=True, ge=least, le=most), real])
    bounds = {"minimum": least, "maximum": most}
    json = {"type": "number"} | {word: bound for word, bound in bounds.items() if bound is not None}
    return expect(f"a number {_span(least, most)}".rstrip(), either, json=json)


def real(least: int, most: int) -> Expected:
    """A finite number between two inclusive bounds, always as float, so that 4 and 4.0 are the same."""

    def parse(given: Any, _: Problems) -> float:
        found = _plain_number(given)
        if not least <= found <= most:
            raise ValueError
        return float(found)

    return parsed(f"a number {_span(least, most)}", parse, {"type": "number", "minimum": least, "maximum": most})


def _span(least: int | None, most: int | None) -> str:
    return "" if least is None else f"from {least}" if most is None else f"from {least} to {most}"


def text(words: str = "text") -> Expected:
    """Any text that is not empty."""
    return expect(words, core_schema.str_schema(strict=True, min_length=1), text=True)


def choice(*options: str) -> Expected:
    """One of these words."""
    words = " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))
    return expect(words, core_schema.literal_schema(list(options)))


def flag_or_text(words: str, *, quoted: bool = True) -> Expected:
    """True, false, or any text that is not empty. ``quoted`` suggests quotes for a number."""
    either = core_schema.union_schema([core_schema.bool_schema(strict=True), text().schema])
    return expect(words, either, text=quoted, json={"type": ["boolean", "string"]})


def flag() -> Expected:
    """True or false; ``yes`` and ``on`` are text."""
    return expect("true or false", core_schema.bool_schema(strict=True))


def percentage(below: float = math.inf) -> Expected:
    """``10%`` or the number 10 -> the ratio 0.1. Refuses a number between 0 and 1, because it is ambiguous."""

    def parse(given: Any, _: Problems) -> float:
        if isinstance(given, str):
            ratio = parse_percent(given)
        else:
            points = _plain_number(given)
            if 0 < points < 1:
                raise ValueError(f"{given:g} may mean {given:g}% or {points * 100:g}%; write it with its % sign")
            ratio = points / 100
        if not 0 <= ratio < below:
            raise ValueError
        return ratio

    upper = {} if below == math.inf else {"exclusiveMaximum": below * 100}
    bare = {"type": "number", "minimum": 0, "not": {"exclusiveMinimum": 0, "exclusiveMaximum": 1}} | upper
    json = {"anyOf": [bare, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}]}
    return parsed("a percentage such as 10%" + (f", below {below:.0%}" if upper else ""), parse, json)


def duration() -> Expected:
    """``30s``, ``5m``, ``250ms`` or a number of seconds -> seconds, more than 0."""

    def parse(given: Any, _: Problems) -> float:
        seconds = parse_duration(given) if isinstance(given, str) else _plain_number(given)
        if not 0 < seconds < math.inf:
            raise ValueError
        return seconds

    bare = {"type": "number", "exclusiveMinimum": 0}
    json = {"anyOf": [bare, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)?\s*$"}]}
    return parsed("a time such as 30s, 5m or 250ms", parse, json)


def mapping(
    words: str, check: Callable[[Node, Problems], object] | None = None, json: Mapping[str, Any] | None = None
) -> Expected:
    """A mapping with any keys, as plain data. ``check`` may note problems inside."""

    def parse(given: Any, problems: Problems) -> Any:
        if not isinstance(given, Located):
            raise ValueError
        if check:
            check(given.node, problems)
        return given.node.to_plain()

    return parsed(words, parse, {"type": "object"} | dict(json or {}))


def _plain_number(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError
    return float(given)


@dataclass(frozen=True, slots=True)
class OneOrMore:
    """A list with at least one item and no duplicates, or a single item without the list; parsed as a tuple."""

    item: ValueType
    keep_single: bool = False
    """Keep a single item without the list as it is: only a list makes an axis."""

    @property
    def words(self) -> str:
        """What the file may hold, in words."""
        return f"{_words(self.item)}, or a list of such"

    def _read(self, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(given, list):
            (only,) = handler([given])
            return only if self.keep_single else (only,)
        if not given:
            raise _said("expected at least one item, got an empty list")
        errors: list[InitErrorDetails] = []
        items: list[Any] = []
        try:
            items = handler(given)
        except ValidationError as error:
            errors = [_repeat(one) for one in error.errors(include_url=False)]
        for place, item in enumerate(given):
            if item in given[:place]:
                twice = _said(f"{'the same' if isinstance(item, dict | list) else item} stands twice; keep one of them")
                errors.append(InitErrorDetails(type=twice, loc=(place,), input=item))
        if errors:
            raise ValidationError.from_exception_data("list", errors)
        return tuple(items)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        items = core_schema.list_schema(handler.generate_schema(_hint(self.item)))
        return core_schema.no_info_wrap_validator_function(self._read, items)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic: both forms are allowed."""
        item = handler(schema)["items"]
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}]}


@dataclass(frozen=True, slots=True)
class Each:
    """A list of any length, duplicates allowed; parsed as a tuple."""

    item: ValueType

    @property
    def words(self) -> str:
        """What the file may hold, in words."""
        return f"a list, each of it {_words(self.item)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        items = core_schema.list_schema(handler.generate_schema(_hint(self.item)))
        return core_schema.no_info_after_validator_function(tuple, items)


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping of names that the user chooses to values of one type."""

    name: Expected
    item: ValueType
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        item = handler.generate_schema(_hint(self.item))
        return core_schema.dict_schema(self.name.schema, item)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic. JSON Schema cannot express all rules for names."""
        return {"type": "object", "additionalProperties": handler(schema)["additionalProperties"]}


class Keyed:
    """A mapping with known keys, all optional; parsed as a dict in the file's order."""

    def __init__(self, values: Mapping[str, ValueType], words: str = "a mapping") -> None:
        self.words = words
        fields: dict[str, Any] = {key: (_hint(value), None) for key, value in values.items()}
        self._model = create_model("Keyed", __base__=FileModel, **fields)

    def _read(self, given: Any, handler: ValidatorFunctionWrapHandler) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise unexpected(self.words)
        made = handler(given)
        return {key: value for key in given if (value := getattr(made, key, None)) is not None}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        return core_schema.no_info_wrap_validator_function(self._read, handler.generate_schema(self._model))


def _repeat(error: ErrorDetails) -> InitErrorDetails:
    again = PydanticCustomError(error["type"], error["msg"], error.get("ctx"))
    return InitErrorDetails(type=again, loc=error["loc"], input=error["input"])


def _hint(value: ValueType) -> Any:
    return value if isinstance(value, type) else Annotated[Any, value]


def _words(value: ValueType) -> str:
    return value.describe_keys() if isinstance(value, type) else value.words


# --- mappings


class FileModel(BaseModel):
    """A mapping of a file with known keys. A field's key is its ``validation_alias``, or else its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)
    _node: Node | None = PrivateAttr(None)

    @property
    def node(self) -> Node:
        """Where it was read; an empty Node if Python code made it."""
        return self._node or Node(None, 1, "", missing=True)

    @classmethod
    @cache
    def keys(cls) -> dict[str, FieldInfo]:
        """Return key -> field, in the order of the fields."""
        return {str(field.validation_alias or name): field for name, field in cls.model_fields.items()}

    @classmethod
    def describe_keys(cls) -> str:
        """Return what a message expects in place of the whole mapping."""
        keys = cls.keys()
        return f"a mapping with {', '.join([key for key in keys if keys[key].is_required()] or keys)}"

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by pydantic: a field's docstring is its description.

        Not pydantic's ``use_attribute_docstrings``: it reads the sources at every import, which is slow.
        """
        told = handler(schema)
        docs = {name: doc for model in reversed(cls.__mro__) for name, doc in _read_docstrings(model).items()}
        properties = handler.resolve_ref_schema(told)["properties"]
        for key, name in zip(cls.keys(), cls.model_fields, strict=True):
            if name in docs:
                properties[key]["description"] = docs[name]
        return told

    @model_validator(mode="wrap")
    @classmethod
    def _read_mapping(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo[Any]) -> Self:
        problems = info.context
        if problems is None:
            return handler(given)
        if not isinstance(given, Located):
            raise unexpected(cls.describe_keys())
        keys = cls.keys()
        for key in given.keys() - keys.keys():
            problems.add(given.node.child(key), f"unknown key; {suggest(key, keys)}")
        named = (key for key, field in keys.items() if key in given or field.is_required())
        made = handler({key: _Place(given.node.child(key), given.get(key)) for key in named})
        made._node = given.node
        return made

    @field_validator("*", mode="wrap")
    @classmethod
    def _read_field(cls, given: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo[Any]) -> Any:
        """Return the value, its valid part, or the default. Notes what is wrong."""
        if not isinstance(given, _Place):
            return given
        node, value = given
        field = cls.model_fields[str(info.field_name)]
        if node.missing:
            info.context.add(node, f"is missing; expected {_describe_field(field)}")
            return _blank(field)
        try:
            return handler(value)
        except ValidationError as error:
            note(error, node, info.context, _describe_field(field))
            _drop(value, {one["loc"][0] for one in error.errors() if one["loc"]})
        try:
            return handler(value)
        except ValidationError:
            return _blank(field)


def _read_docstrings(model: type) -> dict[str, str]:
    """Field -> its docstring in the model's source; empty if there is no source."""
    if not issubclass(model, FileModel) or model.__module__ == __name__:
        return {}
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except OSError:
        return {}
    assert isinstance(body, ast.ClassDef)  # noqa: S101  (for mypy)
    return {
        field.target.id: doc.value.value
        for field, doc in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    }


Model = TypeVar("Model", bound=FileModel)
ValueType = Expected | OneOrMore | Each | Named | Keyed | type[FileModel]


def read_as(model: type[Model], root: Node, problems: Problems) -> Model:
    """Parse a whole file as this model. Notes what is wrong; such fields get their defaults or empty values."""
    try:
        return model.model_validate(locate(root), context=problems)
    except ValidationError as error:
        note(error, root, problems, _words(model))
        return _empty(model)


_ADAPTERS: dict[int, tuple[ValueType, TypeAdapter[Any]]] = {}
"""By the id of a type, kept with the type: a file may have thousands of values of one type."""


def read_value(expected: ValueType, node: Node, problems: Problems) -> Any:
    """Parse a single value; return None after noting what is wrong with it."""
    if id(expected) not in _ADAPTERS:
        _ADAPTERS[id(expected)] = expected, TypeAdapter(_hint(expected))
    _, adapter = _ADAPTERS[id(expected)]
    try:
        return adapter.validate_python(locate(node), context=problems)
    except ValidationError as error:
        note(error, node, problems, _words(expected))
        return None


def _describe_field(field: FieldInfo) -> str:
    kind: Any = field.annotation
    words = (str(one.words) for one in field.metadata if hasattr(one, "words"))
    return next(words, None) or _words(kind)


def _drop(value: Any, steps: Collection[int | str]) -> None:
    """Remove the wrong items of a list or a mapping, so that the rest can be parsed."""
    if isinstance(value, dict):
        for step in steps:
            value.pop(step, None)
    if isinstance(value, list):
        value[:] = [item for place, item in enumerate(value) if place not in steps]


def _blank(field: FieldInfo) -> Any:
    """A stand-in for a missing or wrong value, so that later checks can run."""
    if not field.is_required():
        return field.get_default(call_default_factory=True)
    kind: Any = get_origin(field.annotation) or field.annotation
    if kind is Literal:
        return get_args(field.annotation)[0]
    return _empty(kind) if issubclass(kind, FileModel) else kind()


def _empty(model: type[Model]) -> Model:
    return model.model_construct(
        **{name: _blank(field) for name, field in model.model_fields.items() if field.is_required()}
    )


# --- JSON Schema


class _Writer(GenerateJsonSchema):
    """pydantic's generator, without titles that repeat the keys and without empty defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  (pydantic's)
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        told = super().default_schema(schema)
        default = told.pop("default", None)
        if isinstance(default, list) and len(default) == 1:
            default = default[0]
        says = isinstance(default, bool | int | float) or (isinstance(default, str) and default)
        return told | {"default": default} if says else told


def write_value_schema(value: ValueType) -> dict[str, Any]:
    """Return the JSON Schema of a single value."""
    return _join_parts(TypeAdapter(_hint(value)).json_schema(schema_generator=_Writer))


def write_json_schema(model: type[FileModel], title: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file, in one piece without references."""
    told = _join_parts(model.model_json_schema(schema_generator=_Writer))
    return {"$schema": _Writer.schema_dialect, "title": title, **told}


def _join_parts(told: dict[str, Any]) -> dict[str, Any]:
    parts = told.pop("$defs", {})
    joined: dict[str, Any] = _join(told, parts)
    return joined


def _join(told: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(told, list):
        return [_join(one, parts) for one in told]
    if not isinstance(told, dict):
        return told
    name = str(told.get("$ref", "")).rpartition("/")[2]
    part = parts.get(name, {})
    joined = {**part, **told}
    return {
        word: {key: _join(one, parts) for key, one in rule.items()} if word == "properties" else _join(rule, parts)
        for word, rule in joined.items()
        if word != "$ref" and not (word == "title" and isinstance(rule, str))
    }
