"""Progress on standard error: a bar where somebody watches, else a line for each thing that begins."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    Progress = Callable[[str, int, int], None]


class Interrupted(AgentError):
    """Ctrl-C, which the shell's convention gives 128 + SIGINT."""

    exit_code = 130


@contextmanager
def shown(*, goes_on: bool = False) -> Iterator[Progress]:
    """Give a function to tell how far it is: `progress(what, done, of)`; `of` is 0 while that is unknown.

    `goes_on` says that a second run takes up what the first one did. Raises Interrupted on Ctrl-C.
    """
    from agent.cli.common import make_console

    console = make_console(stderr=True)
    try:
        if console.is_terminal:
            with _bars(console) as progress:
                yield progress
        else:
            yield _lines(console)
    except KeyboardInterrupt:
        fix = "run it again to go on" if goes_on else "run it again"
        raise Interrupted("interrupted", fix=fix) from None


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, rich.TaskID] = {}

        def progress(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            bars.update(tasks[what], completed=done, total=of or None)

        yield progress


def _lines(console: Console) -> Progress:
    begun: set[str] = set()

    def progress(what: str, done: int, of: int) -> None:  # noqa: ARG001 - as the bar's
        if what not in begun:
            begun.add(what)
            console.print(f"{what} ({of})" if of else what, markup=False)

    return progress
