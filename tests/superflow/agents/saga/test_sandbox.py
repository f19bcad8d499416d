"""Programs that misbehave harm nothing but their own row."""

from __future__ import annotations

import os

import pytest

from superflow.agents.saga.cases import Case
from superflow.agents.saga.outcomes import same
from superflow.agents.saga.sandbox import Limits, Sandbox
from superflow.agents.scene import SceneObject, SceneRecord
from superflow.errors import InputError

OBJECT = SceneObject("a", "car", (1.0, 2.0, 0.5), (4.0, 2.0, 1.5), 0.1, None, (), 9)
CASES = [Case(SceneRecord("t", "s", (OBJECT,) * n), {"k": n}) for n in range(3)]
COUNT = "def f(scene, k):\n    return len(scene.objects)"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def box():
    with Sandbox(Limits(cpu_s=1, wall_s=2, memory_mb=3000)) as box:
        yield box


def program(body):
    return "def f(scene, k):\n" + "\n".join(f"    {line}" for line in body.splitlines())


def outcomes(box, source, cases):
    return box.run([{"source": source, "name": "f"}], cases)[0].rows


def test_outcomes_are_values_or_names_of_errors(box):
    assert outcomes(box, COUNT, CASES) == [{"value": n} for n in range(3)]
    assert outcomes(box, program("return [1 / k, None, math.inf, 'a']"), CASES)[:2] == [
        {"raised": "ZeroDivisionError"},
        {"value": [1.0, None, float("inf"), "a"]},
    ]
    assert outcomes(box, program("return scene"), CASES[:1]) == [{"raised": "TypeError"}]
    assert outcomes(box, "def f(:", CASES[:1]) == [{"raised": "ImportError"}]
    assert outcomes(box, "x = 1", CASES[:1]) == [{"raised": "ImportError"}]


def test_arguments_and_scenes_arrive_whole(box):
    source = program(
        "o = scene.objects[0]\nreturn [o.track, o.category, o.center, o.velocity, o.points, k, o.speed]"
    )
    assert outcomes(box, source, CASES[1:2]) == [{"value": ["a", "car", [1.0, 2.0, 0.5], None, 9, 1, None]}]


@pytest.mark.parametrize(
    ("body", "killed"),
    [
        ("while k == 1: pass\nreturn k", "time"),  # CPU time
        (
            "import time\nwhile k == 1:\n    try: time.sleep(60)\n    except BaseException: pass\nreturn k",
            "time",
        ),
        ("import os\nif k == 1: os._exit(0)\nreturn k", "died"),
        ("import os, signal\nif k == 1: os.kill(os.getpid(), signal.SIGSEGV)\nreturn k", "died"),
        ("if k == 1: raise SystemExit\nreturn k", "died"),
    ],
)
def test_a_killed_program_fails_the_test_that_killed_it(box, body, killed):
    (result,) = box.run([{"source": program(body), "name": "f"}], CASES)
    assert (result.rows, result.killed) == ([{"value": 0}], killed)
    _, after = box.compare(COUNT, [program(body), COUNT], "f", CASES)
    assert after == [[False, True, False], [False] * 3]  # the next one runs as if nothing had been


def test_memory_and_files_are_limited(box, tmp_path):
    target = tmp_path / "written"
    assert outcomes(box, program("x = bytearray(4 << 30)\nreturn len(x)"), CASES[:1]) == [
        {"raised": "MemoryError"}
    ]
    write = f"with open({str(target)!r}, 'w') as file:\n    file.write('x' * 100)\nreturn 1"
    assert outcomes(box, program(write), CASES[:1]) == [{"raised": "OSError"}]
    assert not target.exists() or target.stat().st_size == 0
    many = "return len([open('/dev/null') for _ in range(100)])"
    assert outcomes(box, program(many), CASES[:1]) == [{"raised": "OSError"}]


def test_what_a_program_leaves_behind_is_not_seen_by_the_next(box):
    leave = program("math.pi = 3\nSceneRecord.token = 'mine'\nreturn math.pi")
    look = program("return round(math.pi, 2)")
    results = box.run([{"source": source, "name": "f"} for source in (leave, look)], CASES[:1])
    assert [each.rows for each in results] == [[{"value": 3}], [{"value": 3.14}]]


def test_children_of_a_program_end_with_it(box, tmp_path):
    sign = tmp_path / "alive"
    body = f"import os, time\nif os.fork() == 0:\n    time.sleep(1)\n    os.mkdir({str(sign)!r})\nreturn 1"
    (result,) = box.run([{"source": program(body), "name": "f"}], CASES[:1])
    assert result.rows[0] == {"value": 1}
    box.run([{"source": program("import time\ntime.sleep(1.5)\nreturn 1"), "name": "f"}], CASES[:1])
    assert not sign.exists()


def test_a_worker_that_ended_is_said():
    with Sandbox() as box:
        box._process.kill()
        with pytest.raises(InputError, match="process that runs programs ended"):
            outcomes(box, COUNT, CASES)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, 1.0, True),
        (1.0, 1.0 + 1e-8, True),
        (1.0, 1.001, False),
        (True, 1, False),
        (False, 0.0, False),
        (None, 0, False),
        (None, None, True),
        ("car", "car", True),
        (["a", 1.0], ["a", 1.0 + 1e-9], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["b", "a"], False),
        (float("inf"), float("inf"), True),
        ("1", 1, False),
    ],
)
def test_which_values_are_equal(first, second, equal):
    assert same({"value": first}, {"value": second}) is equal
    assert same({"value": second}, {"value": first}) is equal
    assert not same({"value": first}, {"raised": "KeyError"})
    assert not same({"raised": "KeyError"}, {"raised": "KeyError"})


def test_programs_are_compared_with_a_reference_in_one_batch(box):
    wrong = program("return len(scene.objects) if k < 2 else 7")
    answered, rows = box.compare(COUNT, [wrong, COUNT], "f", CASES)
    assert answered == [True] * 3
    assert rows == [[False, False, True], [False] * 3]
    picky = program("return 1 / k")
    answered, rows = box.compare(picky, [picky, COUNT], "f", CASES)
    assert answered == [False, True, True]
    # an error equals nothing; whoever asks leaves it out
    assert rows == [[True, False, False], [True, False, True]]
