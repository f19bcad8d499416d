"""A chat as OpenAI's clients send it, with scans among the parts; everything in it is checked, nothing is ignored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from .halves import Turn
from .link import Scan
from .npy import bytes_of_url, frame_of, points_of
from .refusal import Refusal
from .web import json_of
from .wire import Features, Shape, features_of

ROLES = ("system", "user", "assistant")
MOST_MESSAGES, MOST_SCANS, MOST_CHARACTERS, MOST_ANSWER = 64, 4, 8000, 512
# what a client may send although there is no choice: the one value that each may have
_FIXED: dict[str, tuple[Any, ...]] = {
    "n": (1, None),
    "top_p": (1, None),
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logprobs": (False, None),
    "stop": (None, []),
    "tools": (None, []),
    "response_format": (None, {"type": "text"}),
    "logit_bias": (None, {}),
    "modalities": (None, ["text"]),
}
_NOTES = ("user", "metadata", "store", "service_tier")  # of the client's own book-keeping
_KNOWN = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Chat:
    """A request. scans: in the order of their places in ``turns``."""

    turns: tuple[Turn, ...]
    scans: tuple[Scan | Features, ...]
    answer_tokens: int
    stream: bool = False
    with_usage: bool = False
    temperature: float = 0.0
    seed: int | None = None


def chat_of(data: bytes, *, name: str, model: str, shape: Shape) -> Chat:
    """The chat in the body of a request.

    Args:
        name: under which the model is served. model, shape: its hash and T, D, which ready features must have.

    Raises:
        Refusal: status 400, 404 (another model's name) or 413, with one sentence about the first thing that is wrong.
    """
    values = json_of(data)
    if not isinstance(values, dict):
        raise _bad("the request is no JSON object; send one with model and messages")
    for key, value in values.items():
        if key in _FIXED and value not in _FIXED[key]:
            raise _bad(f"{key} cannot be chosen here; leave it out")
        if key not in (*_FIXED, *_NOTES, *_KNOWN):
            raise _bad(f"there is no {key[:40]!r} in a request; leave it out")
    if values.get("model") != name:
        raise Refusal(
            404, "unknown_model", f"the model {values.get('model')!r:.60} is not served; ask for {name!r}"
        )
    turns, scans = _turns(values.get("messages"), model, shape)
    options = values.get("stream_options")
    options = {} if options is None else options
    if not isinstance(options, dict) or set(options) - {"include_usage"}:
        raise _bad('stream_options knows only {"include_usage": true}')
    tokens = values.get("max_completion_tokens")
    return Chat(
        turns=tuple(turns),
        scans=tuple(scans),
        answer_tokens=_integer(
            "max_tokens", values.get("max_tokens") if tokens is None else tokens, 1, MOST_ANSWER
        )
        or 64,
        stream=_flag("stream", values.get("stream")),
        with_usage=_flag("include_usage", options.get("include_usage")),
        temperature=_temperature(values.get("temperature")),
        seed=_integer("seed", values.get("seed"), 0, (1 << 63) - 1),
    )


def _turns(messages: Any, model: str, shape: Shape) -> tuple[list[Turn], list[Scan | Features]]:
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise _bad(f"messages is no list of 1 to {MOST_MESSAGES} messages")
    turns: list[Turn] = []
    scans: list[Scan | Features] = []
    for message in messages:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or set(message) - {"role", "content", "name"}
        ):
            raise _bad(f"a message has a role ({', '.join(ROLES)}) and content, and nothing else")
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not parts:
            raise _bad("the content of a message is a text or a list of parts")
        said: list[str | None] = []
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                said.append(_text(part))
                continue
            reader = _SCANS.get(kind) if isinstance(kind, str) else None
            if reader is None:
                raise _bad(f"there is no part {kind!r:.40}; parts are text, {', '.join(_SCANS)}")
            if message["role"] != "user":
                raise _bad("only a user shows scans; put the part into a message of the user")
            if set(part) - {"type", kind} or not isinstance(part.get(kind), dict):
                raise _bad(f'a part {kind} is {{"type": "{kind}", "{kind}": {{...}}}}')
            if len(scans) == MOST_SCANS:
                raise _bad(f"there are more than {MOST_SCANS} scans in the chat; show fewer")
            scans.append(reader(part[kind], model, shape))
            said.append(None)
        turns.append((message["role"], said))
    if turns[-1][0] != "user":
        raise _bad("the last message is not of the user; end with a question")
    if sum(len(part or "") for _, parts in turns for part in parts) > MOST_CHARACTERS:
        raise _bad(f"the text is longer than {MOST_CHARACTERS} characters; ask with less")
    return turns, scans


def _text(part: dict[str, Any]) -> str:
    text = part.get("text")
    if not isinstance(text, str) or set(part) != {"type", "text"}:
        raise _bad('a part text is {"type": "text", "text": "..."}')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _bad("the text holds half a character; send it as UTF-8") from error
    return text


def _from_url(value: dict[str, Any], model: str, shape: Shape) -> Scan:
    _only(value, "lidar_url", "url", "lidar_to_ego")
    npy = bytes_of_url(value.get("url"))
    points_of(npy)
    return Scan(npy=npy, lidar_to_ego=frame_of(value.get("lidar_to_ego")))


def _from_log(value: dict[str, Any], model: str, shape: Shape) -> Scan:
    _only(value, "lidar_scene", "token")
    token = value.get("token")
    if not isinstance(token, str) or not 0 < len(token) <= 200:
        raise _bad("the token of a lidar_scene is no text of 1 to 200 characters; GET /v1/scenes lists them")
    return Scan(token=token)


def _from_features(value: dict[str, Any], model: str, shape: Shape) -> Features:
    _only(value, "lidar_embeds", "data", "shape", "dtype", "model", "sha256")
    label = {key: each for key, each in value.items() if key != "data"}
    try:
        data = base64.b64decode(value.get("data", ""), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _bad("the data of lidar_embeds is no base64; encode the bytes of the features") from error
    try:
        return features_of(data, label, model=model, shape=shape)
    except InputError as error:
        raise _bad(str(error)) from error


_SCANS: dict[str, Callable[[dict[str, Any], str, Shape], Scan | Features]] = {
    "lidar_url": _from_url,
    "lidar_scene": _from_log,
    "lidar_embeds": _from_features,
}


def _only(value: dict[str, Any], kind: str, *names: str) -> None:
    if unknown := sorted(set(value) - set(names)):
        raise _bad(f"there is no {unknown[0][:40]!r} in a {kind}; it takes {', '.join(names)}")


def _integer(name: str, value: Any, low: int, high: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise _bad(f"{name} is no whole number from {low} to {high}")
    return value


def _flag(name: str, value: Any) -> bool:
    if value not in (None, True, False) or (isinstance(value, (int, float)) and type(value) is not bool):
        raise _bad(f"{name} is neither true nor false")
    return bool(value)


def _temperature(value: Any) -> float:
    if value is None:
        return 0.0
    if type(value) not in (int, float) or not 0 <= value <= 2:
        raise _bad("temperature is no number from 0 to 2")
    return float(value)


def _bad(sentence: str) -> Refusal:
    return Refusal(400, "bad_request", sentence)
