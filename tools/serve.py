"""Serve a model that sees and speaks: a page, and an endpoint for any client of OpenAI's form.

    superflow serve                                            what `superflow ask` trained, over the quickstart's log
    superflow serve --run work_dirs/quickstart-mylog --port 9000
    superflow serve perception --model vlm --index prepared --port 8001        the two servers by themselves,
    superflow serve language --model vlm --perception http://127.0.0.1:8001    e.g. each with cores of its own

The perception server makes features of scans, the language server answers from them; both read the same folder of a
model. `superflow serve` starts both and starts one anew that ended. They listen on 127.0.0.1; another --host needs a
key in the environment variable SUPERFLOW_SERVE_KEY, which clients send as "Authorization: Bearer KEY".
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from superflow.errors import MissingFileError, require
from superflow.option_values import Range
from superflow.together import end_with_closed_input
from superflow.tools.command import command_parser, count, number_in, run_command

LOCAL = "127.0.0.1"
PARTS = ("both", "perception", "language")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("serve", __doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, default="both", help="which server")
    add_model_arguments(parser)
    parser.add_argument("--host", default=LOCAL, help="address to listen on")
    parser.add_argument(
        "--port",
        type=number_in(Range(0, 65535, whole=True)),
        help="0 for a free one (default: 8000, of the perception server 8001)",
    )
    parser.add_argument(
        "--perception",
        default="http://127.0.0.1:8001",
        help="address of the perception server",
    )
    parser.add_argument("--places", type=count, default=16, help="requests that a server takes at once")
    parser.add_argument(
        "--timeout",
        type=number_in(Range(0, above=True)),
        default=30.0,
        help="for the perception server [s]",
    )
    parser.add_argument(
        "--keep",
        type=number_in(Range(0, 1)),
        metavar="SHARE",
        help="of tiles with full tokens, by the model's router (default: all)",
    )
    # of those who start this one: it shall not outlive them, see ``keeper.HELD``
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What is served: a model, the log that it is asked about, and how features travel; see ``model_of``."""
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("work_dirs/quickstart"),
        help="folder of `superflow quickstart`",
    )
    parser.add_argument("--model", type=Path, help="folder of the model (default: RUN/ask)")
    parser.add_argument("--index", type=Path, help="prepared log (default: RUN/prepared, where there is one)")
    parser.add_argument(
        "--features",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="between the servers",
    )


def model_of(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """Folders of the model and of the prepared log, None where there is none.

    Raises:
        MissingFileError: there is no model.
    """
    model, prepared = args.model or args.run / "ask", args.run / "prepared"
    if not (model / "config.json").is_file():
        raise MissingFileError(
            f'{model} holds no model; train one with superflow ask "how many cars are ahead?", or give --model'
        )
    return model, args.index or (prepared if prepared.is_dir() else None)


def main(argv: list[str] | None = None) -> int:
    """0 when it is told to end, 2 when the input cannot be used."""
    args = parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported
    return run_command("superflow serve", lambda: _serve(args))


def _serve(args: argparse.Namespace) -> int:
    require("fastapi", "agents")
    require("transformers", "agents").utils.logging.disable_progress_bar()
    from superflow.agents.serving import run
    from superflow.agents.serving.hosts import in_url

    if args.until_stdin_closes:
        end_with_closed_input()
    run.key_for(args.host)
    model, index = model_of(args)
    if args.part == "both":
        return _serve_both(args, model, index)
    port = {"perception": 8001, "language": 8000}[args.part] if args.port is None else args.port
    bound = run.listen(args.host, port)  # before the work, so that a taken port is told at once
    server = _server(args, model, index)
    address = f"http://{in_url(args.host)}:{bound.getsockname()[1]}"
    what = {"perception": "perception server", "language": "page and chat endpoint (/v1)"}[args.part]
    print(f"{what} of {model} at {address}; it ends with Ctrl-C", flush=True)
    with suppress(KeyboardInterrupt):  # which uvicorn passes on after it has ended as it should
        server.run(sockets=[bound])
    return 0


def _server(args: argparse.Namespace, model: Path, index: Path | None) -> Any:
    from superflow.agents.serving import run

    if args.part == "perception":
        return run.perception(model, index, host=args.host, places=args.places, share=args.keep)
    return run.language(
        model,
        args.perception,
        host=args.host,
        places=args.places,
        timeout_s=args.timeout,
        dtype=args.features,
    )


def _serve_both(args: argparse.Namespace, model: Path, index: Path | None) -> int:
    from superflow.agents.serving import keeper

    port, eyes = (
        8000 if args.port is None else args.port or keeper.free_port(args.host),
        keeper.free_port(LOCAL),
    )
    command = [sys.executable, "-m", "superflow.tools.main", "serve"]
    shared = ["--model", str(model), "--places", str(args.places)]
    log = [] if index is None else ["--index", str(index)]
    keep = [] if args.keep is None else ["--keep", str(args.keep)]
    commands = {
        "perception": [*command, "perception", *shared, *log, *keep, "--port", str(eyes)],
        "language": [
            *[*command, "language", *shared, "--host", args.host, "--port", str(port)],
            *[
                "--perception",
                f"http://{LOCAL}:{eyes}",
                "--timeout",
                str(args.timeout),
                "--features",
                args.features,
            ],
        ],
    }
    return keeper.keep(commands, lambda sentence: print(sentence, file=sys.stderr, flush=True))


if __name__ == "__main__":
    sys.exit(main())
