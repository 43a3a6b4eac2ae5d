"""The one place that imports OpenCV, which draws here (Pillow decodes, but for one kind of PNG)."""

from __future__ import annotations

from typing import Any

from segcli.errors import UsageError


def opencv() -> Any:
    """The cv2 module.

    Raises:
        UsageError: OpenCV is missing, or its desktop build finds no libGL (servers, containers).
    """
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            f"OpenCV does not load ({error}); on a machine without a desktop: "
            "pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless"
        ) from error
    return cv2
