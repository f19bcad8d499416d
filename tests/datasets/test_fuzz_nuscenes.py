"""Hundreds of logs that are wrong in many ways: each is taken and can be used, or refused by one sentence."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter

import pytest
from log_fuzz import Fuzzer, attempt

from superflow.datasets.sets.nuscenes import write_index

SEEDS = 500


def fuzz(log, seed: int) -> tuple[str | None, list[str]]:
    """What one log came to, and what was done to it."""
    fuzzer = Fuzzer(log.tables, seed)
    log.write(fuzzer.mutate())
    log.restore_index()
    try:
        read = lambda: write_index(log.root, log.out, version=log.folder.name)  # noqa: E731
        return attempt(read, log.out, log.around), fuzzer.did
    except BaseException as error:
        error.add_note(f"seed {seed}: {'; '.join(fuzzer.did)}")
        raise


def reason(sentence: str) -> str:
    """The sentence without what differs from log to log."""
    after_path = re.sub(r"^\S*/", "", sentence)
    fault = re.sub(r"(?<=no valid JSON).*|(?<=holds).*| is .*; it must be.*", " ...", after_path)
    return re.sub(r"'[^']*'|\d+", "_", fault)[:70]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(5))
def test_wrong_logs_are_taken_or_refused(log_to_break, part):
    results = [fuzz(log_to_break, seed)[0] for seed in range(part, SEEDS, 5)]
    refused = [sentence for sentence in results if sentence is not None]
    # both happen often, else the mutations are too mild or too wild to find anything
    assert 0.1 < len(refused) / len(results) < 0.9


@pytest.mark.fuzz
def test_wrong_logs_for_as_long_as_asked(log_to_break, capsys):
    """``SUPERFLOW_FUZZ_MINUTES`` of them from the seed ``SUPERFLOW_FUZZ_SEED`` on; prints what they came to."""
    minutes = float(os.environ.get("SUPERFLOW_FUZZ_MINUTES", "30"))
    first = seed = int(os.environ.get("SUPERFLOW_FUZZ_SEED", "1000"))
    reasons: Counter[str] = Counter()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        sentence, _ = fuzz(log_to_break, seed)
        reasons["taken" if sentence is None else reason(sentence)] += 1
        seed += 1
    with capsys.disabled():
        print(
            f"\n{seed - first} logs, seeds {first} to {seed - 1}: {reasons['taken']} taken, the others refused"
        )
        for text, count in reasons.most_common():
            print(f"{count:7} {text}")
    assert seed > first
