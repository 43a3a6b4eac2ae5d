"""Errors a user can cause or meet. Each carries one line for the terminal and the exit code that goes with it."""

from __future__ import annotations


class SegcliWarning(UserWarning):
    """A condition worth a line on stderr that does not stop the work."""


class SegcliError(Exception):
    """Base of every error that is shown as one line, never as a traceback.

    The message names the file, the offending value and the remedy.
    """

    exit_code = 1


class UsageError(SegcliError):
    """Wrong options, an impossible combination, a model that cannot do the task (exit code 2)."""

    exit_code = 2


class InputError(SegcliError):
    """One input could not be read or processed; the others go on (exit code 1 at the end)."""

    exit_code = 1


class OutputError(SegcliError):
    """A result could not be written: folder not writable, disk full (exit code 1)."""

    exit_code = 1


class CheckpointError(SegcliError):
    """A checkpoint that is there but cannot be used: unknown architecture, wrong tensors, NaN weights (exit code 3)."""

    exit_code = 3


class WeightsUnavailable(SegcliError):
    """Weights that are neither here nor downloadable now (exit code 3)."""

    exit_code = 3
