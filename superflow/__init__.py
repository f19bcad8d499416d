"""Unlabelled driving logs in, a pretrained LiDAR backbone out.

``superflow.load(name_or_file)`` returns a pretrained backbone; ``.extract(points)`` gives one row per point.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .hub.backbone import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# In a checkout lidar/, camera/, datasets/, tools/ and configs/ lie beside this folder (see setup.py).
_here = Path(__file__).resolve().parent
if not (_here / "lidar").is_dir():
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> Any:
    # `load` pulls in torch; importing the package alone must stay fast
    if name == "load":
        from .hub.backbone import load

        return load
    raise AttributeError(f"module 'superflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # notebooks complete what is imported on demand, too
