"""Installs the top-level rooms as sub-packages of ``superflow``; everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup

# top-level folder -> superflow.<folder>; superflow/__init__.py finds the same folders in a checkout
LIFTED = ("lidar", "camera", "datasets", "tools", "configs")

packages = find_packages(include=["superflow", "superflow.*"])
for name in LIFTED:
    packages += [f"superflow.{name}"] + [f"superflow.{name}.{p}" for p in find_namespace_packages(name)]

setup(
    packages=packages,
    package_dir={f"superflow.{name}": name for name in LIFTED},
    package_data={
        "superflow": ["py.typed"],
        "superflow.hub": ["backbones/*"],
        "superflow.agents.serving": ["*.html"],
        "superflow.datasets": ["**/*.yaml"],
        "superflow.configs": ["**/*.yaml"],
        "superflow.tools": ["*.sh"],
    },
)
