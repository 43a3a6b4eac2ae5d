"""Datasets on the Hugging Face Hub: hf://org/name, hf://org/name@revision, hf://org/name/folder; kept in its cache."""

from __future__ import annotations

import re
from pathlib import Path

from segcli.errors import UsageError, cut

_ADDRESS = re.compile(r"hf:/{1,2}(?:datasets/)?([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?(?:/(.+?))?/?")


def downloaded(path: Path | str) -> Path | None:
    """The folder of the cache that holds a dataset of the Hub, downloaded if it is not there; None for other paths.

    Raises UsageError for a name that is not one, and if there is no such dataset or no way to it.
    """
    text = str(path).replace("\\", "/")  # on Windows a path has lost its slashes
    if not text.startswith("hf:"):
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or ".." in text.split("/"):
        raise UsageError(f"{text}: not the name of a dataset on the Hub; expected hf://org/name")
    name, revision, folder = match.groups()
    import huggingface_hub
    from huggingface_hub import errors

    patterns = [f"{folder}/*", f"{folder}/**"] if folder else None
    try:
        home = huggingface_hub.snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=patterns, etag_timeout=10
        )
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"hf://{name}: the Hub has no such dataset, or it is not public: log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"hf://{name}: has no revision {revision!r}: a branch, a tag or a commit is meant") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UsageError(
            f"hf://{name}: cannot be downloaded ({cut(str(error).splitlines()[0])}) and is not in the cache; "
            "try again where there is a network, or give its folder"
        ) from error
    place = Path(home, folder) if folder else Path(home)
    if not place.is_dir():
        raise UsageError(f"hf://{name}: has no folder {folder}")
    return place
