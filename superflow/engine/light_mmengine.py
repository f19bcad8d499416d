"""mmengine's optimizers, imported without transformers.

Where transformers is installed, mmengine imports it for one optimizer, Adafactor: each start of a command would read a
thousand modules more. A config that wants it registers it itself (custom_imports).
"""

from __future__ import annotations

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
if "transformers" not in _modules:
    _modules["transformers"] = None  # Python's way to say that there is none
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del _modules["transformers"]
