"""What commands share: how they end, with their own code or with 2 and one sentence."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from superflow.errors import InputError, MissingPackageError, first_line
from superflow.files.access import refusal
from superflow.option_values import Range
from superflow.together import terminate_started

# how PyTorch says it, of the CPU, of a GPU and of its libraries
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED")
# of a process that works for this one: the system ends it where memory, or the part of it that processes share, is full
_ENDED = re.compile(
    r"terminated abruptly|worker \(pid.*(exited unexpectedly|killed by signal: (Killed|Bus error))"
)
STOPPED = "stopped; run the same command again, it goes on from what is finished or begins anew"


class Terminated(KeyboardInterrupt):
    """SIGTERM came. What is done at Ctrl-C is done."""


def run_command(program: str, work: Callable[[], int], *, stopped: str = STOPPED) -> int:
    """The exit code of ``work()``; 2 where an input, a file that the system refuses, a lacking package or a full memory
    stopped it.

    Ctrl-C ends it with 130 and the words ``stopped``, SIGTERM with 143 and the same words.

    Readers and writers say what is wrong with their files; what the system refuses elsewhere is said here, so that
    nobody reads a traceback about a folder without rights, or a pipe that was closed. Another ``OSError`` about no file
    is a fault of the program.
    """
    try:
        with _stopped_by_sigterm():
            return work()
    except (InputError, MissingPackageError) as error:
        said = str(error)
    except BrokenPipeError:  # whoever read what is printed has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return 141  # what a shell gives for the end by SIGPIPE
    except KeyboardInterrupt as error:
        print(f"{program}: {stopped}", file=sys.stderr)
        # what a shell gives for the end by that signal
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    except OSError as error:
        if error.filename is None:
            raise
        said = refusal(error)
    except (MemoryError, RuntimeError) as error:
        if _ENDED.search(str(error)):
            said = "a process that works for this one was ended from outside, most often for want of memory"
        elif isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            said = "there is no memory left"
        else:
            raise
        said += (
            f" ({first_line(error)}); take less at a time (in training: batch_size or num_workers of train_dataloader, "
            "--amp on a GPU; --dry-run says what a run needs), end what else uses it, or give a container more shared "
            "memory (docker run --shm-size)"
        )
    print(f"{program}: {said}", file=sys.stderr)
    return 2


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM in a block, unless the signal means something else to who called."""

    def stop(*_: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait
        terminate_started()  # Ctrl-C reaches them by itself
        raise Terminated

    # only the main thread may set what a signal does
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def named_values(option: str, texts: Iterable[str], form: str) -> dict[str, str]:
    """``["a=1"]`` as ``{"a": "1"}``.

    Args:
        option: that takes them. form: what each must be, with an example, as ``KEY=VALUE, as in segments=150``.

    Raises:
        InputError: one has no name or no ``=``, or a name is there twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise InputError(f"{option} {text}: give {form}")
        if name in found:
            raise InputError(
                f"{option} {text}: {name} is given twice, as {found[name]} before; leave out one of them"
            )
        found[name] = value
    return found


def refuse_over(option: str, out: Path, *read: Path) -> None:
    """Refuse to write over a file that is read.

    Raises:
        InputError: ``out``, as ``option`` gives it, is one of those ``read``.
    """
    if any(out.exists() and path.exists() and out.samefile(path) for path in read):
        raise InputError(f"{option} {out}: is a file that is read, and would be written over; name another")


def say_next(*words: object) -> None:
    """Print the command that most often follows, as it is typed."""
    print(f"next: {shlex.join(['superflow', *map(str, words)])}")


def end_command(code: int) -> NoReturn:
    """End the process of a command with ``code``, by `superflow.method.launch.leave` where it is one of several."""
    launch = sys.modules.get("superflow.method.launch")  # without it no process was joined to another
    if launch is not None and launch.joined():
        launch.leave(code)
    sys.exit(code)


class _CommandHelp(argparse.RawDescriptionHelpFormatter):
    """Adds the default of an option, where it has one and its help does not say what it is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default, text = action.default, action.help or ""
        unsaid = default is None or default is False or default in ("", argparse.SUPPRESS, [], ())
        if unsaid or "default" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
        return f"{text} (default: {shown.replace('%', '%%')})"


class _CommandParser(argparse.ArgumentParser):
    """Says why an argument is missing that stands there: an option before it takes every word behind it."""

    _words: Sequence[str] = ()

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _CommandHelp)
        super().__init__(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        missing = message.partition("required: ")[2].split(", ")
        names = [
            action.dest for action in self._actions if not action.option_strings and action.dest in missing
        ]
        greedy = [
            option
            for action in self._actions
            if action.nargs in ("?", "*", "+")
            for option in action.option_strings
            if option in self._words
        ]
        if names and greedy:
            message += (
                f"; {greedy[0]} takes the words behind it for its own: write {' '.join(names)} before it"
            )
        super().error(message)


def command_parser(name: str, page: str | None) -> argparse.ArgumentParser:
    """The parser of ``superflow NAME``, whose help begins with the page of its module as it stands."""
    return _CommandParser(prog=f"superflow {name}", description=page)


def number_in(numbers: Range) -> Callable[[str], Any]:
    """The type of an option that takes these numbers alone: whole ones as int, others as float."""

    def read(text: str) -> Any:
        try:
            number = int(text) if numbers.whole else float(text)
        except ValueError:
            number = math.nan
        if not numbers.holds(number):
            raise argparse.ArgumentTypeError(f"is {text!r}; give {numbers}")
        return number

    return read


count = number_in(Range(1, whole=True))  # of what there must be one
count_or_none = number_in(Range(0, whole=True))
seed = number_in(Range(0, 2**32 - 1, whole=True))


def add_leakage_argument(parser: argparse.ArgumentParser) -> None:
    """The switch of every command that measures weights, see `superflow.hub.leakage`."""
    parser.add_argument(
        "--allow-leakage",
        action="store_true",
        help="evaluate on drives that the weights were trained on; the result says it",
    )
