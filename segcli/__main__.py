"""The console script `segcli` and `python -m segcli`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

# Packages whose C++ parts call Python while they are imported, and end the process with an abort if that raises.
_COMPILED = ("torch", "torchvision", "numpy", "scipy", "cv2")


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: KeyboardInterrupt, as ever, but at once out of an import, when there is no work to be cleaned up."""
    for name in _COMPILED:
        if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
            os._exit(130)
    raise KeyboardInterrupt


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what is half done is removed on the way out, as after Ctrl-C."""

    exit_code = 143


_MAIN = os.getpid()


def _stop(number: int, frame: object) -> None:
    if os.getpid() != _MAIN:  # a process that loads images: its parent cleans up
        os._exit(143)
    raise Terminated


def main() -> None:
    """Run the command line and exit with its code; whatever the user does ends in one line, not in a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    # PyTorch's threads wait for one another thousands of times in a forward pass. Spinning while they wait, they hold a
    # core that the thread they wait for could use, and beside one other busy program on two cores a pass takes fifteen
    # times as long; asleep, twice. A quiet machine notices no difference. Read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes, and tables signs, that the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        signal.signal(signal.SIGTERM, _stop)
        from segcli.cli import app

        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our stdout has left (`segcli … | head`). Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # What has a file's name has its line by now; what is left is stdout itself (`> file`, disk full).
        print(f"segcli: error: standard output: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stop:
        sys.exit(getattr(stop, "exit_code", 130))


if __name__ == "__main__":
    main()
