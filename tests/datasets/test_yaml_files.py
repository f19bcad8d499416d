"""YAML that is small and endless is refused at once; all other is read as by PyYAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from superflow.datasets.formats import yaml_files
from superflow.datasets.formats.yaml_files import load_yaml, read_yaml
from superflow.datasets.prepare import prepare
from superflow.errors import InputError


def laughs(levels: int) -> str:
    """Nine times nine times nine ... words."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines) + "\n"


def test_all_that_is_shipped_is_read_as_by_pyyaml(repository: Path):
    paths = [*repository.glob("datasets/cards/*.yaml"), *repository.glob("datasets/splits/*.yaml")]
    assert len(paths) > 15
    for path in paths:
        assert load_yaml(path.read_text()) == yaml.safe_load(path.read_text())
    shared = "lens: &lens {fx: 1}\nfront: {<<: *lens, cx: 2}\nback: *lens\n"
    assert load_yaml(shared) == yaml.safe_load(shared)
    assert load_yaml(laughs(3)) == yaml.safe_load(laughs(3))
    assert load_yaml("") is None


@pytest.mark.parametrize("key", ["points", "name", "cameras", "poses", "splits"])
def test_a_layout_that_means_a_thousand_million_words_is_one_sentence(key, tmp_path):
    (tmp_path / "folder.yaml").write_text(f"{laughs(9)}{key}: *a8\n")
    with pytest.raises(
        InputError, match=r"folder.yaml: is no valid YAML \(it holds more than 1000000 values"
    ):
        prepare("folder", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("sign", ["[", "{a: ", "- ", "? "])
def test_what_is_nested_without_end_is_one_sentence(sign, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(sign * 20_000)
    with pytest.raises(
        InputError, match=r"a.yaml: is no valid YAML \(it holds more than 1000000 values or 50 levels"
    ):
        read_yaml(path)


@pytest.mark.parametrize("text", ["points: &a [*a]\n", "points: &a {b: [1, *a]}\n", "&a {points: *a}\n"])
def test_a_value_that_holds_itself_is_one_sentence(text, tmp_path):
    (tmp_path / "folder.yaml").write_text(text)
    with pytest.raises(InputError, match=r"folder.yaml: is no valid YAML \(a holds itself\)"):
        prepare("folder", tmp_path, tmp_path / "out")


def test_values_are_counted_as_they_are_written_out(monkeypatch):
    text = "a: &a [1, 2, 3]\nb: [*a, *a, *a, *a, *a]\n"
    whole = 1 + 2 + 4 + 1 + 5 * 4  # the file, two keys, the list of three, the list of five such
    monkeypatch.setattr(yaml_files, "MOST_VALUES", whole)
    assert load_yaml(text) == yaml.safe_load(text)
    monkeypatch.setattr(yaml_files, "MOST_VALUES", whole - 1)
    with pytest.raises(yaml.YAMLError, match=f"more than {whole - 1} values"):
        load_yaml(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("points:\n\tfiles: a\n", r"line 2: found character '\\t' that cannot start any token"),
        ("a: 1\nb: [1, 2\nc: 3\n", r"line 3: expected ',' or '\]', but got ':'"),
        ("a: 2021-13-40\n", "month must be in 1..12"),
        ("a: *b\n", "line 1: found undefined alias 'b'"),
        (
            "a: !!python/object/apply:os.system [id]\n",
            "line 1: could not determine a constructor for the tag",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"a.yaml: is no valid YAML \({said}"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("points: {files: a/*.bin}\nname: x\npoints: {files: b/*.bin}\n", 3, "points"),
        ("cameras:\n  front: {size: [1, 2]}\n  'front': {size: [3, 4]}\n", 3, "front"),
        ("splits: {train: [a], train: [b]}\n", 1, "train"),
    ],
)
def test_a_key_that_stands_twice_is_refused_in_its_line(text, line, key, tmp_path):
    """The library would take the last one."""
    (tmp_path / "folder.yaml").write_text(text)
    with pytest.raises(
        InputError, match=rf"no valid YAML \(line {line}: the key '{key}' stands there twice\)"
    ):
        prepare("folder", tmp_path, tmp_path / "out")


def test_merged_keys_may_be_given_anew():
    for text in (
        "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n",
        "a: &a {x: 1}\nb: &b {x: 2}\nc: {<<: *a, <<: *b}\n",
    ):
        assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("number", ["010", "-017", "1:30", "190:20:30.15", "0_10"])
def test_a_number_that_means_another_one_is_refused(number, tmp_path):
    """As ids of classes are written, 001 to 020, of which YAML reads 010 as 8; 00 and 07 are themselves."""
    path = tmp_path / "a.yaml"
    path.write_text(f"name: x\ncategories: {{007: car, {number}: road}}\n")
    with pytest.raises(
        InputError, match=rf"no valid YAML \(line 2: '{number}' is another number in YAML; write it in"
    ):
        read_yaml(path)
    path.write_text(f'categories: {{000: car, 007: van, "{number}": road, 0x10: bus, 0.50: kerb}}\n')
    assert set(read_yaml(path)["categories"]) == {0, 7, number, 16, 0.5}
