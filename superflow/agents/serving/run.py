"""The servers as processes: where they listen, and both of them together."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from ...errors import InputError, require
from .hosts import is_loopback

KEY = "SUPERFLOW_SERVE_KEY"  # of the environment: a key on the command line would stand in every list of processes
DRAIN_S = 30  # for what was taken, when a server is told to end


def key_for(host: str) -> str | None:
    """The key of the environment.

    Raises:
        InputError: ``host`` is more than this machine, and there is none.
    """
    key = os.environ.get(KEY) or None
    if not is_loopback(host) and key is None:
        raise InputError(
            f"on {host} others reach this server, too; set {KEY} to a key that they must show, or listen on 127.0.0.1"
        )
    if key is not None and (len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key):
        raise InputError(f"{KEY} is shorter than 16 characters or holds others than ASCII's; choose another")
    return key


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ``port`` 0 takes a free one.

    Raises:
        InputError: the port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise InputError(f"nothing can listen at {host}:{port} ({error}); choose another --port") from error
    return bound


def server_of(app: Any) -> Any:
    """A uvicorn server of an application; ``run(sockets=[...])`` runs it until it is told to end."""
    uvicorn = require("uvicorn", "agents")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
        lifespan="off",
    )
    return uvicorn.Server(config)


def perception(
    folder: Path, index: Path | None, *, host: str, places: int, share: float | None = None
) -> Any:
    """The perception server of a saved model, over the log of ``index``; ``share`` see ``Eyes``."""
    from ...datasets.index import LogIndex
    from .halves import Eyes
    from .perception import perception_app
    from .scenes import Scenes

    scenes = None if index is None else Scenes(LogIndex.open(index))
    app = perception_app(
        Eyes(folder, share), scenes, places=places, key=key_for(host), any_host=not is_loopback(host)
    )
    return server_of(app)


def language(folder: Path, url: str, *, host: str, places: int, timeout_s: float, dtype: str) -> Any:
    """The language server of a saved model, which asks the perception server at ``url``."""
    from .halves import Voice
    from .language import LanguageServer, language_app
    from .link import Link

    key = key_for(host)
    link = Link(url, timeout_s=timeout_s, key=os.environ.get(KEY) or None, dtype=dtype)
    server = LanguageServer(Voice(folder), link, name=folder.resolve().name, places=places)
    return server_of(language_app(server, key=key, any_host=not is_loopback(host)))
