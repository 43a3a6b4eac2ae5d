"""Numbers for TensorBoard, an optional package."""

from __future__ import annotations

from pathlib import Path

from segcli.errors import UsageError
from segcli.training.reports import StepReport, ValidationReport


def require_tensorboard() -> None:
    """Raises UsageError if the package is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError("--tensorboard needs its package: pip install tensorboard") from error


class Board:
    """Event files in the run's folder. What `require_tensorboard` asks for must be here."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, report: object) -> None:
        """The numbers of a report that has any."""
        if isinstance(report, StepReport):
            values = {"loss": report.loss, "lr": report.lr, "gradient": report.gradient} | {
                f"loss/{name}": value for name, value in report.terms.items()
            }
            step = report.step
        elif isinstance(report, ValidationReport):
            values = {f"val/{name}": value for name, value in report.metric.summary.items()} | {
                "val/empty": report.empty
            }
            step = report.step
        else:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Bring everything to the disk."""
        self._writer.close()
