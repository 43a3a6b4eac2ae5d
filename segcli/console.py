"""The only place that prints. Results go to stdout, everything about the work to stderr.

Nothing here imports rich until a table or a progress bar is really shown; in a pipe there is neither colour nor bar.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from segcli.errors import SegcliWarning
from segcli.table_layout import Column, Fitted, fit

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress

_COLOUR = re.compile(r"(\x1b\[\d*m)")
_aliases: dict[str, str] = {}


def alias(place: object, name: str) -> None:
    """From now on whatever is printed calls a place by another name."""
    _aliases[str(place)] = name


def _named(text: str) -> str:
    for place, name in _aliases.items():
        text = text.replace(place, name)
    return text


def printable(text: object) -> str:
    """One line that cannot steer a terminal: control characters (a file name may hold them) become escapes."""
    text = _named(str(text))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def error(message: object) -> None:
    """One line on stderr for what went wrong."""
    _stderr("error", message, "\x1b[1;31m")


def warning(message: object) -> None:
    """One line on stderr for what did not stop the work."""
    _stderr("warning", message, "\x1b[33m")


def _stderr(kind: str, message: object, style: str) -> None:
    label = f"{style}{kind}:\x1b[0m" if sys.stderr.isatty() else f"{kind}:"
    print(f"segcli: {label} {printable(message)}", file=sys.stderr, flush=True)


def show_warnings() -> None:
    """From now on segcli's own warnings are lines for the user; other libraries' are for developers (`python -W`)."""

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, SegcliWarning):
            warning(message)
        elif sys.warnoptions:
            _stderr(category.__name__, message, "\x1b[33m")

    warnings.showwarning = show


def detail(message: object) -> None:
    """One line on stderr that belongs to the error before it."""
    print(f"  {printable(message)}", file=sys.stderr, flush=True)


def result(text: object = "") -> None:
    """One line on stdout."""
    print(printable(text))


def drawing(lines: Iterable[str]) -> None:
    """Lines of a picture made of characters, on stdout. Control characters other than colours are escaped."""
    for line in lines:
        print("".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(line)))


def json_line(record: Any) -> None:
    """One JSON value on one line of stdout, flushed so that a pipe sees each image as it is done."""
    print(_named(json.dumps(record, allow_nan=False)), flush=True)


def json_document(record: Any) -> None:
    """One indented JSON value on stdout."""
    print(json.dumps(record, allow_nan=False, indent=2))


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[object]],
    title: str | None = None,
    *,
    full: str = "a wider terminal",
    stderr: bool = False,
) -> None:
    """A table on stdout, or on stderr if it is about the work. One that is too wide for the terminal is turned, or
    loses its last columns, with a note; a pipe gets all of it, unless COLUMNS is set.

    full: where the whole of it can be had.
    """
    stream = sys.stderr if stderr else sys.stdout
    cells = [[printable(cell) for cell in row] for row in rows]
    fitted = fit(columns, cells, _width_of(stream))
    if title is not None:  # not the table's own title, which would be folded to the table's width
        print(printable(title), file=stream)
    _print(fitted, stream)
    if fitted.dropped:
        print(f"not shown for lack of width: {', '.join(fitted.dropped)} ({full} has them)", file=stream)


def _width_of(stream: Any) -> int | None:
    """Characters of a terminal; of a pipe those that COLUMNS says, else None: it gets all of a table."""
    if stream.isatty():
        return _rich(stream).width
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and 0 < int(columns) < 10_000 else None


def _print(table: Fitted, stream: Any) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column, width in zip(table.columns, table.widths, strict=True):
        justify: Any = "right" if column.numeric else "left"
        grid.add_column(Text(column.heading), justify=justify, width=width, overflow="fold")
    for row in table.rows:
        grid.add_row(*map(Text, row))
    _rich(stream, None if stream.isatty() else max(160, table.width)).print(grid)


def _rich(stream: Any, width: int | None = None) -> RichConsole:
    from rich.console import Console as RichConsole

    # A pipe has no width of its own; rich would fold long names at 80 columns.
    return RichConsole(file=stream, highlight=False, width=width if stream.isatty() else width or 160)


class Console:
    """What one command says while it works, under its --quiet.

    quiet: only errors, warnings and results that were asked for (`result`, `json_line`) are printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None

    def note(self, message: object) -> None:
        """One line on stderr about the work itself."""
        if not self.quiet:
            print(printable(message), file=sys.stderr, flush=True)

    def say(self, text: object = "") -> None:
        """One line on stdout for a person to read; not printed when quiet."""
        if not self.quiet:
            result(text)

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[object]],
        title: str | None = None,
        *,
        full: str = "a wider terminal",
    ) -> None:
        """A table on stdout for a person to read, see `table`; not printed when quiet."""
        if not self.quiet:
            table(columns, rows, title, full=full)

    @contextmanager
    def progress(
        self, what: str, total: int | None, *, bytes: bool = False, parts: bool = False
    ) -> Iterator[Callable[[float], None]]:
        """A bar on stderr while the block runs; yields the function that advances it. Absent in pipes and when quiet.

        total: how many steps (or bytes) there are, if known; a single step has no bar, unless it is done in parts.
        """
        if self.quiet or self._bar is not None or (total == 1 and not parts) or not sys.stderr.isatty():
            yield lambda steps: None
            return
        from rich import progress as bars

        count: list[bars.ProgressColumn] = (
            [bars.DownloadColumn(), bars.TransferSpeedColumn()] if bytes else [bars.MofNCompleteColumn()]
        )
        columns = [bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), *count]
        # With stdout on the same terminal its lines must go above the bar; elsewhere (a file, a pipe) they must not
        # be taken from it.
        self._bar = bars.Progress(
            *columns,
            bars.TimeRemainingColumn(),
            console=_rich(sys.stderr),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        try:
            with self._bar as bar:
                task = bar.add_task(printable(what), total=total)
                yield lambda steps: bar.advance(task, steps)
        finally:
            self._bar = None

    @contextmanager
    def panel(self) -> Iterator[Callable[[Sequence[tuple[str, str]]], None] | None]:
        """A few lines on stderr that stay at the bottom of the terminal while the block runs; yields the function that
        renews them from (name, value) pairs. None in pipes and when quiet: there, print single lines instead (`note`).
        """
        if self.quiet or self._bar is not None or not sys.stderr.isatty():
            yield None
            return
        from rich.live import Live
        from rich.table import Table
        from rich.text import Text

        with Live(console=_rich(sys.stderr), transient=True, refresh_per_second=4) as live:

            def renew(rows: Sequence[tuple[str, str]]) -> None:
                grid = Table.grid(padding=(0, 2))
                for name, value in rows:
                    grid.add_row(Text(name, style="dim"), Text(printable(value)))
                live.update(grid)

            yield renew
