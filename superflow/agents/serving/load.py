"""Both servers under load, and while either is killed: what each request came to. Bounded in time and in requests."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from .visitor import ANSWERED, BROKEN, LOST, End, Question, Visitor

SERVERS = ("perception", "language")
MOST_TRIES = 100  # of a request that finds no place
BETWEEN = 2  # answers between two kills, so that each hits servers that work


@dataclass(frozen=True, slots=True)
class Level:
    """What a number of clients got. times are seconds of answered requests; ``held`` the most of them at once."""

    clients: int
    answered: int
    busy: int
    other: int
    held: int
    p50_s: float
    p95_s: float
    overlap: float
    faults: tuple[str, ...]


def level(visitor: Visitor, questions: Sequence[Question], clients: int, requests: int) -> Level:
    """So many clients ask until so many requests are answered, each as soon as its last one ended.

    A client that finds no place waits as long as it is told, and tries again.
    """
    numbers, lock, ends = iter(range(requests)), threading.Lock(), list[End]()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            for _ in range(MOST_TRIES):
                end = visitor.ask(questions[number % len(questions)])
                ends.append(end)
                if end.status != 429:
                    break
                time.sleep(end.wait_s)

    _together(work, clients)
    answered = [end for end in ends if end.kind == ANSWERED]
    spans = [(end.begin_s, end.end_s) for end in answered]
    times = sorted(end - begin for begin, end in spans)
    busy = sum(end.status == 429 for end in ends)
    traces = [each for each in visitor.get("/v1/traces")["traces"] if each["stages"]]
    since = min((begin for begin, _ in spans), default=math.inf)
    traces = [each for each in traces if each["stages"][0]["begin_s"] >= since]
    return Level(
        clients, len(answered), busy, len(ends) - len(answered) - busy, most_at_once(spans),
        percentile(times, 50), percentile(times, 95), overlap(traces), tuple(faults(ends)),
    )  # fmt: skip


def kills(
    visitor: Visitor,
    questions: Sequence[Question],
    *,
    clients: int,
    count: int,
    within_s: float,
    told: Callable[[str], None] = lambda sentence: None,
) -> list[tuple[str, list[End]]]:
    """Kill one of the servers and the other by turns, while clients ask; somebody else starts them anew.

    Returns:
        which server was killed, and how the requests ended from there to the next kill; before the first under "".

    Raises:
        InputError: the servers are not well again, or answer nothing, within ``within_s``.
    """
    ends, enough, numbers = list[End](), threading.Event(), iter(range(1 << 60))

    def work() -> None:
        while not enough.is_set():
            end = visitor.ask(questions[next(numbers) % len(questions)])
            ends.append(end)
            if end.kind != ANSWERED:
                enough.wait(min(max(end.wait_s, 0.2), 1.0))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    parts, cut = [("", 0)], 0
    for thread in threads:
        thread.start()
    try:
        for number in range(count + 1):
            wanted = sum(end.kind == ANSWERED for end in ends) + BETWEEN
            until(
                lambda: sum(end.kind == ANSWERED for end in ends) >= wanted,  # noqa: B023  # called at once
                within_s,
                "the servers answer nothing",
            )
            if number == count:
                break
            of = SERVERS[number % 2]
            before, cut = pid_of(visitor.get("/health"), of), len(ends)
            parts.append((of, cut))
            os.kill(before, signal.SIGKILL)
            well(visitor, within_s, of, before)
            told(f"killed the {of} server, {number + 1} of {count}: it is back")
    finally:
        enough.set()
        for thread in threads:
            thread.join(within_s)
    stops = [begin for _, begin in parts[1:]] + [len(ends)]
    return [(of, ends[begin:stop]) for (of, begin), stop in zip(parts, stops)]


def faults(ends: Iterable[End]) -> list[str]:
    """What must not be: requests that ended in nothing, wrong answers, answers that came twice."""
    found, seen = [], Counter[str]()
    for end in ends:
        if end.kind == LOST:
            found.append(f"no end: {end.asked.text}")
        elif end.kind == ANSWERED:
            seen[end.reply] += 1
            if end.asked.answer and end.text != end.asked.answer:
                found.append(f"{end.asked.text}: {end.text!r} instead of {end.asked.answer!r}")
            if end.more or seen[end.reply] > 1:
                found.append(f"answered twice: {end.asked.text}")
    return found


def kinds(ends: Iterable[End]) -> dict[str, int]:
    """How many ended how: "answered", "503", "broken off", ..."""
    return dict(Counter(str(end.status) if end.status not in (0, 200) else end.kind for end in ends))


def broken_while(parts: Iterable[tuple[str, list[End]]], killed: str) -> int:
    """Connections that broke off after a server was killed."""
    return sum(end.kind == BROKEN for of, ends in parts if of == killed for end in ends)


def well(visitor: Visitor, within_s: float, of: str = "language", other_than: int | None = None) -> None:
    """Wait until both servers are well, and one of them is another process than it was."""

    def is_well() -> bool:
        health = visitor.get("/health")
        return bool(health) and health["status"] == "ok" and pid_of(health, of) != other_than

    until(is_well, within_s, "the servers are not well")


def pid_of(health: Mapping[str, Any], of: str) -> int:
    """The process of a server, by what the language server's ``/health`` says."""
    return int(health["pid"] if of == "language" else health["perception"]["pid"])


def until(true: Callable[[], bool], within_s: float, sentence: str) -> None:
    """Wait until something is true; InputError with the sentence where it does not come."""
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            raise InputError(
                f"{sentence} within {within_s:g} s; see what they printed, or give more --patience"
            )
        time.sleep(0.1)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of some spans of time overlap at most; one that begins as another ends does not."""
    steps = sorted((when, change) for begin, end in spans for when, change in ((begin, 1), (end, -1)))
    inside = most = 0
    for _, change in steps:
        inside += change
        most = max(most, inside)
    return most


def overlap(traces: Iterable[Mapping[str, Any]]) -> float:
    """The share of the time in which the language model spoke while the eyes looked at another request's scan."""
    traces = list(traces)
    spoken = _spans(traces, "language")
    looked = _spans(traces, "perception.look")
    # one scan is looked at at a time, so none is counted twice
    shared = sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for request, begin, end in spoken
        for other, other_begin, other_end in looked
        if request != other
    )
    whole = sum(end - begin for _, begin, end in spoken)
    return shared / whole if whole else 0.0


def percentile(times: Sequence[float], per_cent: int) -> float:
    """The smallest of sorted times that so many per cent of them do not exceed; nan without any."""
    return times[max(0, math.ceil(len(times) * per_cent / 100) - 1)] if times else math.nan


def _spans(traces: Iterable[Mapping[str, Any]], stage: str) -> list[tuple[str, float, float]]:
    return [
        (trace["request"], each["begin_s"], each["end_s"])
        for trace in traces
        for each in trace["stages"]
        if each["stage"] == stage
    ]


def _together(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
