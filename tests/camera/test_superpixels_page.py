"""docs/superpixels.md has every provider, every option with its default, and every figure of the quality."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from superflow.camera.superpixels.provider import PROVIDERS, provider_class
from superflow.camera.superpixels.quality import QualityReport


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "superpixels.md").read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_provider_stands_in_the_table(page):
    table = page.split("| provider | regions | ids |\n")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_option_is_explained_with_its_default(page, name):
    found = re.search(rf"^`{name}`: (.*?)(?:\n\n|\Z)", section(page, "Options"), re.DOTALL | re.MULTILINE)
    assert found
    for option, parameter in inspect.signature(provider_class(name)).parameters.items():
        if option.startswith("_"):
            continue
        assert re.search(rf"`{option}[`=]", found[1]), option
        if stated := re.search(rf"`{option}` \((`\w+`|[\d.]+(?:, \d+)*)[:,)]", found[1]):
            value = stated[1]
            default = value.strip("`") if value.startswith("`") else ast.literal_eval(value)
            assert default == parameter.default, option


def test_every_figure_is_explained(page):
    table = section(page, "Quality").split("| figure | meaning |\n")[1].split("\n\n")[0]
    named = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert named == {field.name for field in fields(QualityReport)}
