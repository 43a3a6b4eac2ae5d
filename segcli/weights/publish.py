"""Uploads a model folder to the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.weights import hub
from segcli.weights.download import explain, quiet_library
from segcli.weights.hub_guard import guarded

CARD = "README.md"


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Create the repository if needed, and one commit of the model with its card; -> the repository's address.

    Raises UsageError for an invalid name, CheckpointError for a folder without a model, WeightsUnavailable where the
    Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.utils import disable_progress_bars

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(f"{repo}: a repository on the Hub is called org/name")
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; a model is the folder that train or convert has written")
    model = hub.from_folder(folder)
    files = [model.config, *model.weights, *([model.preprocessor] if model.preprocessor else []), *_beside(folder)]
    operations: list[Any] = [CommitOperationAdd(path.name, path) for path in files]
    if not sys.stderr.isatty():
        disable_progress_bars()  # huggingface_hub's own, which show the upload
    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        with quiet_library(), guarded():
            api.create_repo(repo, private=private, exist_ok=True)
            api.create_commit(repo, operations, commit_message="A model of segcli")
    except Exception as error:
        failure = explain(error.__cause__ if type(error) is RuntimeError and error.__cause__ else error, repo, "main")
        if failure is None:
            raise
        raise WeightsUnavailable(f"{repo} cannot be pushed: {failure.reason}") from error
    return f"{constants.ENDPOINT}/{repo}"


def _beside(folder: Path) -> list[Path]:
    """The card, and the index of weights in several files."""
    return [path for name in (CARD, *hub.INDICES) if (path := folder / name).is_file()]
