"""Pieces of a benchmark in processes and on a cluster: each ends by itself."""

from __future__ import annotations

import math
import operator
import os
import sys
from functools import partial

import pytest

from superflow.benchmark.shards import run_shards
from superflow.errors import InputError

GOOD, WRONG = partial(math.sqrt, 4.0), partial(math.sqrt, -1.0)
KILLED = partial(os._exit, 9)  # as if the system had ended it


def outcome(pairs) -> dict:
    return {item: found for item, found in pairs}


def check(found: dict) -> None:
    assert found[GOOD] == 2.0
    assert isinstance(found[WRONG], ValueError)
    assert isinstance(found[KILLED], BaseException)
    assert len(found) == 3


def test_neither_an_error_nor_a_killed_process_takes_others_with_it():
    found = outcome(run_shards(operator.call, [KILLED, WRONG, GOOD], jobs=2))
    check(found)
    assert "its process was killed" in str(found[KILLED])


def test_a_result_that_is_false_is_one():
    assert outcome(run_shards(operator.call, [float], jobs=1)) == {float: 0.0}


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray local: ray is not installed .*superflow-lidar\[ray\]"):
        next(run_shards(operator.call, [GOOD], jobs=1, ray="local"))


def test_a_cluster_of_two_workers_does_the_same():
    pytest.importorskip("ray", reason="a cluster needs ray, which the extra test-agents brings")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        check(outcome(run_shards(operator.call, [KILLED, WRONG, GOOD], jobs=1, ray=cluster.address)))
    finally:
        cluster.shutdown()


def test_an_address_without_a_cluster_is_one_sentence():
    pytest.importorskip("ray", reason="a cluster needs ray, which the extra test-agents brings")
    with pytest.raises(
        InputError, match=r"--ray auto: no cluster answers there .* start one with `ray start"
    ):
        next(run_shards(operator.call, [GOOD], jobs=1, ray="auto"))
