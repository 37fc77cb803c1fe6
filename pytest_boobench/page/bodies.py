"""Door 3: what the page's API takes: each body with its fields, and what is wrong with one in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from pytest_boobench.page.guard import ApiRefusal
from pytest_boobench.suite.spec import SAMPLING

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_NAME, _TIME = r"^[\w][\w .:/@+-]{0,99}$", r"^\d{1,6}(\.\d{1,3})?(ms|s|m|h)?$"
_WORDS = {
    _NAME: "expected a name such as main: letters, digits and any of _ . : / @ + -, 100 at most",
    _TIME: "expected a time such as 30s, 10m or 1h",
}
"""Pattern -> what is said of a text that does not fit it."""
BaselineWord = Annotated[str, StringConstraints(pattern=_NAME)]
"""A baseline's name; nothing that could be an option."""
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, strip_whitespace=True)]
"""Why; it is stored."""
Role = Literal["system", "user", "assistant"]
MOST_TOKENS = 131_072
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """The body of a request. A field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class LoginBody(Body):
    """``/api/login``."""

    token: Annotated[str, StringConstraints(max_length=200)]
    """From the address in the terminal."""


class RunBody(Body):
    """``/api/runs``: which cells to run, and how."""

    node_ids: list[Name] | None = None
    """Of the tree; null: all."""
    k: Annotated[str, StringConstraints(max_length=1000)] = ""
    """As pytest's ``-k``."""
    hosts: list[Name] = Field(default_factory=list)
    """Only the cells of these hosts; empty: of all."""
    save_baseline: Literal["replace", "add"] | None = None
    baseline: BaselineWord | None = None
    """To compare with, and to save to."""
    wait: Annotated[str, StringConstraints(pattern=_TIME)] | None = None
    """How long to wait for a busy host."""
    takeover: bool = False
    """Measure even while others use the host."""
    confirm: str = ""
    """Must be the word ``takeover`` for a takeover."""
    workers: Annotated[int, Field(ge=1, le=32)] | None = None
    """Processes that measure in parallel, by pytest-xdist."""
    dry: bool = False
    """Only tell the command line."""


class StopBody(Body):
    """``/api/runs/ID/stop``."""

    how: Literal["interrupt", "terminate"]


class TextPart(Body):
    """A part of a message that is text."""

    type: Literal["text"]
    text: str


class ImageAddress(Body):
    """A picture, in the request itself: a host is never told to fetch an address."""

    url: Annotated[str, StringConstraints(pattern=r"^data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+$")]


class ImagePart(Body):
    """A part of a message that is a picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


class TalkMessage(Body):
    """One message of a conversation."""

    role: Role
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


def _make_sampling() -> type[Body]:
    """A field for each of the suite's sampling fields, with the suite's own bounds."""
    fields: dict[str, Any] = {
        name: (Annotated[Any, expected], Field(None, description=expected.words)) for name, expected in SAMPLING.items()
    }
    return create_model("SamplingBody", __base__=Body, __doc__="Sampling fields, sent as written.", **fields)


if TYPE_CHECKING:
    SamplingBody = Body
else:
    SamplingBody = _make_sampling()


class PromptBody(Body):
    """What is sent to a model."""

    system: str = ""
    messages: Annotated[list[TalkMessage], Field(min_length=1, max_length=1000)]
    sampling: SamplingBody = Field(default_factory=SamplingBody)
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 512

    @property
    def given(self) -> dict[str, Any]:
        """The sampling fields that the request names."""
        return dict(self.sampling.model_dump(exclude_unset=True, exclude_none=True))


class TryBody(PromptBody):
    """``/api/try``."""

    host: Name
    model: Name
    wait: bool = False
    """Wait where a measurement runs on the host, instead of being refused."""


class SideBody(Body):
    """One side of a comparison."""

    host: Name
    model: Name


class CompareBody(PromptBody):
    """``/api/ab``: the same prompt and seed on several sides."""

    sides: Annotated[list[SideBody], Field(min_length=2, max_length=4)]
    mode: Literal["turns", "together"] = "turns"
    blind: bool = False
    anyway: bool = False
    """At once, though sides share a machine."""
    wait: bool = False


class RepeatBody(Body):
    """``/api/ab/EXCHANGE/repeat``."""

    times: Annotated[int, Field(ge=1, le=100)] = 10
    wait: bool = False


class VoteBody(Body):
    """``/api/ab/EXCHANGE/vote``."""

    vote: Literal["a", "b", "c", "d", "tie", "both bad"]


class BaselineBody(Body):
    """``/api/baselines``: put a stored measurement in force."""

    measurement: int
    name: BaselineWord
    reason: Reason


class ClearBody(Body):
    """``/api/baselines/clear``: take a cell's baseline out of force."""

    name: BaselineWord
    key: Name
    reason: Reason


def read_body(kind: type[B], content: bytes) -> B:
    """The body; ApiRefusal with the first field that is wrong."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        several = error.errors(include_url=False, include_input=False)
        begin = several[0]["loc"][:1]  # of a value that may be two things, what is wrong deeper inside says more
        first = max((one for one in several if one["loc"][:1] == begin), key=lambda one: len(one["loc"]))
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier()) or None
        said = _WORDS.get(first.get("ctx", {}).get("pattern", ""), first["msg"])
        text = f"{where}: {said}" if where else said
        raise ApiRefusal(400 if first["type"].startswith("json") else 422, text, where) from None
