"""The console script `segcli` and `python -m segcli`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and exit with its code; whatever the user does ends in one line, not in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes, and tables signs, that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        from segcli.cli import app

        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our stdout has left (`segcli … | head`). Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
