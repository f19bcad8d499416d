"""What the load check counts: ends of requests against servers that misbehave, overlap against a plain twin."""

from __future__ import annotations

import json
import math
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra agents")
from superflow.agents.serving import load
from superflow.agents.serving.flips import FORMS, OneProcess
from superflow.agents.serving.load import faults, kinds, level, most_at_once, overlap, percentile
from superflow.agents.serving.scenes import Scenes
from superflow.agents.serving.visitor import ANSWERED, BROKEN, LOST, REFUSED, End, Question, Visitor
from superflow.agents.vlm.ask import wording

ASKED = Question("token", "how many cars are there?", "2")
BODY = json.dumps({"id": "a", "choices": [{"message": {"content": "2"}}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}"


def read_request(reader) -> None:
    """A whole request, its body too: who closes on unread bytes resets the connection."""
    length = 0
    while (line := reader.readline()).strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    reader.read(length)


@contextmanager
def saying(answer: bytes | None):
    """A server that says this to one request and closes; None: it says nothing, and keeps the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        enough = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as reader:
                read_request(reader)
                if answer is None:
                    enough.wait(20)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        enough.set()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (HEAD % len(BODY) + BODY, ANSWERED, 200),
        (BUSY, REFUSED, 429),
        (b"", BROKEN, 0),
        (HEAD % 1000 + BODY, BROKEN, 0),
        (b"nonsense\r\n\r\n", BROKEN, 0),
        (None, LOST, 0),
    ],
)
def test_how_a_request_ends(answer, kind, status):
    with saying(answer) as port:
        end = Visitor(port, "vlm", patience_s=0.5, answer_tokens=4).ask(ASKED)
    assert (end.kind, end.status) == (kind, status)
    assert end.begin_s <= end.end_s
    if kind == ANSWERED:
        assert (end.reply, end.text, end.more) == ("a", "2", False)
    assert end.wait_s == (3 if status == 429 else 0)
    assert bool(faults([end])) == (kind == LOST)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    visitor = Visitor(port, "vlm", patience_s=1, answer_tokens=4)
    assert visitor.ask(ASKED).kind == BROKEN
    assert visitor.get("/health") is None


def test_an_answer_that_comes_twice_is_a_fault():
    whole = HEAD % len(BODY) + BODY
    with saying(whole + whole) as port:
        end = Visitor(port, "vlm", patience_s=5, answer_tokens=4).ask(ASKED)
    assert end.more
    assert faults([end]) == ["answered twice: how many cars are there?"]


def ended(kind=ANSWERED, **more):
    return End(ASKED, kind, 0.0, 1.0, **{"status": 200, "reply": "a", "text": "2"} | more)


def test_faults_and_kinds_by_hand():
    assert faults([ended(), ended(reply="b"), ended(BROKEN, status=0), ended(REFUSED, status=503)]) == []
    assert faults([ended(), ended()]) == ["answered twice: how many cars are there?"]
    assert faults([ended(text="3")]) == ["how many cars are there?: '3' instead of '2'"]
    assert kinds([ended(), ended(), ended(BROKEN, status=0), ended(REFUSED, status=503)]) == {
        ANSWERED: 2, BROKEN: 1, "503": 1
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_overlap_as_a_plain_twin_on_a_grid(seed):
    """Whole times, so that each unit of time is either in a span or not; scans are looked at one after another."""
    rng = np.random.default_rng(seed)
    marks = np.sort(rng.integers(0, 60, 12)).reshape(6, 2)
    traces = []
    for i, (begin, end) in enumerate(marks.tolist()):
        spoken = sorted(rng.integers(0, 60, 2).tolist())
        stages = [
            {"stage": "perception.look", "begin_s": begin, "end_s": end},
            {"stage": "language", "begin_s": spoken[0], "end_s": spoken[1]},
        ]
        traces.append({"request": str(i), "stages": stages})
    spoken = shared = 0
    for each in traces:
        for t in range(each["stages"][1]["begin_s"], each["stages"][1]["end_s"]):
            spoken += 1
            shared += any(
                o["stages"][0]["begin_s"] <= t < o["stages"][0]["end_s"] for o in traces if o is not each
            )
    assert math.isclose(overlap(traces), shared / spoken if spoken else 0.0)
    spans = [
        (s["begin_s"], s["end_s"]) for each in traces for s in each["stages"] if s["begin_s"] < s["end_s"]
    ]
    assert most_at_once(spans) == max(sum(b <= t < e for b, e in spans) for t in range(60))


def test_percentiles():
    assert [percentile(range(1, 101), p) for p in (0, 50, 95, 100)] == [1, 50, 95, 100]
    assert percentile([7.0], 95) == 7.0
    assert math.isnan(percentile([], 50))


def test_a_level_answers_all_and_sees_a_wrong_answer(both, folder, small_index):
    _, voice = both(places=1)
    alone = OneProcess(folder, Scenes(small_index))
    questions = alone.questions(3, 0, "float32")
    visitor = Visitor(voice.port, "vlm", patience_s=60, answer_tokens=16)
    found = level(visitor, questions, 3, 5)
    assert (found.answered, found.other, found.held, found.faults) == (5, 0, 1, ())
    assert found.busy > 0  # one place, three clients
    assert 0 < found.p50_s <= found.p95_s
    lied = [Question(each.token, each.text, each.answer + "!") for each in questions]
    assert len(level(visitor, lied, 1, 2).faults) == 2


def test_a_level_ends_where_there_never_is_a_place(monkeypatch):
    monkeypatch.setattr(load, "MOST_TRIES", 3)

    class Full:
        def ask(self, asked):
            return End(asked, REFUSED, 0.0, 1.0, 429)

        def get(self, path):
            return {"traces": []}

    found = level(Full(), [ASKED], 2, 4)
    assert (found.answered, found.busy) == (0, 12)


def test_flips_by_a_voice_that_says_what_it_hears(monkeypatch):
    """Two of three answers hang on the last bits of the features, one of them at once."""
    alone = OneProcess.__new__(OneProcess)
    said = {"a": ("1", "1"), "b": ("12", "13"), "c": ("2", "3")}

    def answer(token, text, dtype, answer_tokens=16):
        return said[token][dtype == "bfloat16"][:answer_tokens]

    monkeypatch.setattr(alone, "answer", answer, raising=False)
    monkeypatch.setattr(alone, "drawn", lambda count, seed: [(token, "?") for token in said])
    found = alone.flips(3, 0)
    assert (found.questions, found.answers, found.first_tokens) == (3, 2, 1)


def test_a_small_model_knows_every_form():
    assert len(set(FORMS)) == len(FORMS) > 100
    for form in FORMS:
        wording(form)
