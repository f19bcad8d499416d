"""Who may ask, how many at once, and what is said where the other server is slow, gone, or another."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import ExitStack

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra agents")
from superflow.agents.serving import run
from superflow.agents.serving.gate import Gate
from superflow.agents.serving.link import Link, Scan
from superflow.agents.serving.refusal import Refusal
from superflow.agents.serving.web import make_app
from superflow.agents.serving.wire import Features, checksum, features_of
from superflow.errors import InputError

KEY = "k" * 16


def status_of(app, path: str, bound: str = "203.0.113.1", **headers: str) -> int:
    """Of a GET to a server that is bound to this address."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": (bound, 80),
        "client": ("203.0.113.2", 1),
        "headers": [(name.lower().encode(), value.encode("latin1")) for name, value in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def test_a_key_is_wanted_where_there_is_one():
    app, _ = make_app(Gate(1), key=KEY, any_host=True)
    for shown in ("", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ", "Bearer \xe9"):
        assert status_of(app, "/metrics", Authorization=shown) == 401
        assert status_of(app, "/v1/nothing", Authorization=shown) == 401
    assert status_of(app, "/metrics", Authorization=f"Bearer {KEY}") == 200
    assert status_of(app, "/v1/nothing", Authorization=f"Bearer {KEY}") == 404


def test_another_host_is_refused_also_where_its_name_cannot_be_read():
    app, _ = make_app(Gate(1), key=None, any_host=False)
    others = (
        "evil.example",
        "evil.example:x",
        "evil.example:99999",
        "[",
        "[::1",
        "a b",
        "",
        "localhost@evil.example",
    )
    for host in (
        *others,
        "evil.example, localhost",
        "localhost, evil.example",
        "127.0.0.1.evil.example",
        "\xe9",
    ):
        assert status_of(app, "/metrics", bound="127.0.0.1", Host=host) == 421, host
    own = (
        "localhost",
        "localhost:8000",
        "LOCALHOST",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[::1]",
        "127.0.0.2:8000",
    )
    for host in own:  # of any of these addresses `serve --host` takes requests without a key
        assert status_of(app, "/metrics", bound="127.0.0.1", Host=host) == 200, host
    assert status_of(app, "/metrics", bound="127.0.0.1") == 200  # a client of HTTP/1.0, which is no browser


def test_other_addresses_want_a_key(monkeypatch):
    monkeypatch.delenv(run.KEY, raising=False)
    assert run.key_for("127.0.0.1") is run.key_for("localhost") is run.key_for("::1") is None
    for host in ("0.0.0.0", "192.168.0.4", "::", "example.org"):
        with pytest.raises(InputError, match="set SUPERFLOW_SERVE_KEY"):
            run.key_for(host)
    monkeypatch.setenv(run.KEY, "short")
    with pytest.raises(InputError, match="shorter than 16"):
        run.key_for("127.0.0.1")
    monkeypatch.setenv(run.KEY, KEY)
    assert run.key_for("0.0.0.0") == KEY


def test_a_full_server_says_when_to_come_again():
    gate = Gate(2)
    with ExitStack() as inside:
        inside.enter_context(gate.enter())
        inside.enter_context(gate.enter())
        with pytest.raises(Refusal, match="2 requests are inside") as refused, gate.enter():
            pass
        assert refused.value.status == 429
        assert int(refused.value.headers()["Retry-After"]) >= 1
        assert gate.inside == 2
    assert gate.inside == 0
    with pytest.raises(ZeroDivisionError), gate.enter():
        raise ZeroDivisionError
    assert gate.inside == 0


def test_a_server_that_is_gone_or_slow():
    with run.listen("127.0.0.1", 0) as bound:  # taken, and nobody listens
        gone = Link(f"http://127.0.0.1:{bound.getsockname()[1]}", timeout_s=5.0)
        with pytest.raises(Refusal, match="cannot be reached") as refused:
            gone.look(Scan(token="t"), "r", model="m", shape=(1, 1))
        assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        slow = Link(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(Refusal, match=r"did not answer within 0.2 s") as refused:
            slow.look(Scan(token="t"), "r", model="m", shape=(1, 1))
        assert refused.value.status == 504
    for url in ("https://127.0.0.1:1", "127.0.0.1:8001", "http://", "http://127.0.0.1/path"):
        with pytest.raises(InputError, match="no address"):
            Link(url)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_arrive_as_they_were_or_not_at_all(dtype):
    tokens = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    data, label = Features(tokens, "abc").to_bytes()
    label = json.loads(json.dumps(label))
    found = features_of(data, label, model="abc", shape=(6, 5))
    assert torch.equal(found.tokens, tokens)
    assert found.tokens.dtype == dtype
    assert torch.equal(features_of(data, label, model="abc", shape=(range(2, 9, 2), 5)).tokens, tokens)
    size = tokens.element_size()  # a bfloat16 is the upper half of a float32
    assert data == b"".join(struct.pack("<f", value)[4 - size :] for row in tokens.tolist() for value in row)
    nan = Features(torch.full((6, 5), float("nan"), dtype=dtype), "abc").to_bytes()
    wrong = [
        (data, label, "another", (6, 5), "the model 'abc'"),
        (data, label, "abc", (5, 6), "of shape"),
        (data, label, "abc", (range(2, 6, 2), 5), r"takes \[2 to 5, 5\]"),
        (data, label, "abc", (range(1, 9, 2), 5), "of shape"),
        (data, {**label, "shape": [6.0, 5]}, "abc", (6, 5), "of shape"),
        (data, {**label, "shape": 30}, "abc", (6, 5), "of shape"),
        (data[:-1], label, "abc", (6, 5), "cut or changed"),
        (data[1:] + data[:1], label, "abc", (6, 5), "cut or changed"),
        (data[:-1], {**label, "sha256": checksum(data[:-1])}, "abc", (6, 5), "cut or changed"),
        (data, {**label, "dtype": "float16"}, "abc", (6, 5), "float32 or bfloat16"),
        (data, {**label, "dtype": ["float32"]}, "abc", (6, 5), "float32 or bfloat16"),
        (data, {**label, "more": 1}, "abc", (6, 5), "and nothing else"),
        (data, None, "abc", (6, 5), "and nothing else"),
        (*nan, "abc", (6, 5), "NaN"),
    ]
    for values, told, model, shape, said in wrong:
        with pytest.raises(InputError, match=said):
            features_of(values, told, model=model, shape=shape)
