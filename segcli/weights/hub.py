"""From the name of a model to its files.

Asked in this order, and no network is touched before the last: a local folder, a model that ships with segcli, the
cache of huggingface_hub, the Hub itself.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segcli.config import parse_config
from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.files.json_file import read_object
from segcli.types import TASKS, Task
from segcli.weights import download
from segcli.weights.download import Progress
from segcli.weights.manifest import ManifestEntry, default_for, lookup, manifest, offline_default

CONFIG = "config.json"
_LARGEST_CONFIG = 1 << 24  # bytes
GRAPHS = ("model.onnx", "model.xml")  # instead of weights, in what `segcli export` wrote
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_MOST_SHARDS = 1000
INDICES = tuple(name for name in WEIGHTS if name.endswith(".index.json"))


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of a checkpoint on this machine and what is known about it.

    weights: one file, or the shards of an index in the order the index names them.
    preprocessor: None where the checkpoint has none.
    entry: its row in weights.toml, None for a checkpoint segcli does not know.
    revision: the commit, where the files come from the Hub.
    """

    name: str
    folder: Path
    config: Path
    weights: tuple[Path, ...]
    preprocessor: Path | None
    entry: ManifestEntry | None
    revision: str | None
    source: Literal["local", "bundled", "cache", "download"]


@dataclass(frozen=True)
class _HubModel:
    """Where on the Hub a reference points to."""

    name: str
    repo: str
    revision: str
    entry: ManifestEntry | None

    @property
    def weights(self) -> tuple[str, ...]:
        """The weight files to ask for, best first: the one weights.toml names, then whatever there is."""
        known = self.entry.weights if self.entry else None
        return (known, *(name for name in WEIGHTS if name != known)) if known else WEIGHTS


class _MissingShards(Exception):
    """An index names weight files that do not exist."""


def locate(ref: str, *, progress: Progress | None = None) -> CheckpointFiles:
    """The files of a model, downloaded if they are not on this machine.

    ref: a folder, a name in weights.toml, or org/name on the Hub; the last two may end in @revision. A folder wins
    over a name, unless it holds no config.json.
    progress: shows a download, see `segcli.weights.download.Progress`.
    Raises CheckpointError for a folder that lacks something, WeightsUnavailable for what cannot be had.
    """
    return find(ref) or _download(_place(ref), progress)


@dataclass(frozen=True)
class Default:
    """The model to use where the user named none. missing, reason: the task's own, if it is unavailable, and why."""

    name: str
    missing: str | None = None
    reason: str = ""


def locate_default(task: Task, progress: Progress | None = None) -> Default:
    """The model of a task that is on this machine, downloaded if need be: its default, or the one that ships with
    segcli.

    Raises WeightsUnavailable where the default cannot be had and the one that ships does not do the task.
    """
    name, offline = default_for(task), offline_default()
    try:
        locate(name, progress=progress)
    except WeightsUnavailable as error:
        if offline is None or task not in manifest()[offline].tasks:
            raise
        cause = error.__cause__ if isinstance(error.__cause__, WeightsUnavailable) else error
        return Default(offline, missing=name, reason=str(cause))
    return Default(name)


def find(ref: str) -> CheckpointFiles | None:
    """`locate` without the network: None for a model of the Hub that is not in the cache."""
    if not ref.strip():
        raise UsageError("the model is an empty string: give a folder, a name from `segcli models list` or org/name")
    folder = own_folder(ref)
    entry = lookup(ref)
    if folder.is_dir() and (entry is None or (folder / CONFIG).is_file()):
        return from_folder(folder)
    if folder.is_file():
        raise CheckpointError(f"{ref} is a file; a model is the folder with its config.json and weights")
    if entry is not None and entry.bundled_folder is not None:
        return from_folder(entry.bundled_folder, entry)
    return _from_cache(_place(ref))


# --------------------------------------------------------------------------------------------------- local folders


def from_folder(folder: Path, bundled: ManifestEntry | None = None) -> CheckpointFiles:
    """The files of a model folder. Raises CheckpointError for one that lacks something."""
    config = folder / CONFIG
    if not config.is_file():
        run = f"; this is a run, its model is {folder / 'best'}" if (folder / "best" / CONFIG).is_file() else ""
        raise CheckpointError(
            f"{folder} has no {CONFIG}: a model folder has it beside {WEIGHTS[0]} or {WEIGHTS[2]}{run}"
        )
    try:
        weights = _gather(lambda name: path if (path := folder / name).is_file() else None, WEIGHTS)
    except _MissingShards as error:
        raise CheckpointError(f"{folder} is incomplete: {error}") from error
    if weights is None:
        if is_exported(folder):
            raise CheckpointError(
                f"{folder} is an exported model, which predicts and nothing else; use the model it was made from"
            )
        raise CheckpointError(f"{folder} has a {CONFIG} but no weights: none of {', '.join(WEIGHTS)} is there")
    preprocessor = folder / PREPROCESSOR
    return CheckpointFiles(
        name=bundled.name if bundled else _own_name(folder.resolve()),
        folder=folder,
        config=config,
        weights=weights,
        preprocessor=preprocessor if preprocessor.is_file() else None,
        entry=bundled or _copied_from(folder, config),
        revision=None,
        source="bundled" if bundled else "local",
    )


def is_exported(folder: Path) -> bool:
    """Whether `segcli export` wrote this folder; its graph may have been lost since."""
    if any((folder / graph).is_file() for graph in GRAPHS):
        return True
    config = folder / CONFIG
    if not config.is_file():  # a pipe would be waited for
        return False
    with suppress(OSError), config.open("rb") as file:
        return b'"segcli_export"' in file.read(_LARGEST_CONFIG)  # `segcli.export.contract.TABLE`, of a layer above
    return False


def own_folder(ref: str | os.PathLike[str]) -> Path:
    """A reference as a folder of this machine; "~" is its user's."""
    try:
        return Path(ref).expanduser()
    except RuntimeError:  # "~name" of nobody
        return Path(ref)


def _own_name(folder: Path) -> str:
    """A folder's name; of a run's models, which are all called best or last, the run's too."""
    return f"{folder.parent.name}/{folder.name}" if folder.name in ("best", "last") else folder.name


def _copied_from(folder: Path, config: Path) -> ManifestEntry | None:
    """The row of a checkpoint that was pulled elsewhere and copied here, known by its folder's name.

    That is the repository's name, or the cache's own `models--org--name/snapshots/<commit>`. A folder that segcli wrote
    carries its facts itself, and one with another number of classes is another model.
    """
    path = folder.resolve()
    name = path.name
    if path.parent.name == "snapshots" and path.parents[1].name.startswith("models--"):
        name = path.parents[1].name.removeprefix("models--").replace("--", "/")
    entry = lookup(name)
    if entry is None:
        return None
    try:
        facts = read_object(config, CheckpointError)
        labels = entry.spec().labels
        is_same = "segcli" not in facts and (
            entry.labels is None
            or len(facts["id2label"]) == len(labels)
            or parse_config(facts, str(config)).fit_classes(labels.ids) is not None
        )
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        return None  # whoever reads the configuration for good says what is wrong with it
    return entry if is_same else None


def _gather(get: Callable[[str], Path | None], names: tuple[str, ...]) -> tuple[Path, ...] | None:
    """The first of some weight files that is there, as one path or as the shards of its index; None if none is."""
    for name in names:
        path = get(name)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return (path,)
        shards = {shard: get(shard) for shard in _shard_names(path)}
        missing = [shard for shard, found in shards.items() if found is None]
        if missing:
            raise _MissingShards(f"{name} names {', '.join(missing[:3])}{', …' * (len(missing) > 3)}: not there")
        return tuple(found for found in shards.values() if found is not None)
    return None


def _shard_names(index: Path) -> list[str]:
    try:
        shards = sorted(set(read_object(index, CheckpointError)["weight_map"].values()))
        is_usable = 0 < len(shards) <= _MOST_SHARDS and all(
            re.fullmatch(r"[\w.-]{1,200}\.(safetensors|bin)", shard) for shard in shards
        )
    except (CheckpointError, KeyError, TypeError, AttributeError):
        is_usable = False
    if not is_usable:
        raise CheckpointError(f"{index} is not an index of weight files: no weight_map with their names")
    return shards


# ---------------------------------------------------------------------------------------------- the Hub and its cache


def refuse_unknown(ref: str) -> None:
    """Raise WeightsUnavailable for what is no folder, no known name and no name that the Hub could have."""
    if not Path(ref).is_dir():
        _place(ref)


def _place(ref: str) -> _HubModel:
    name, _, revision = ref.partition("@")
    entry = lookup(name)
    if revision and (not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision) or ".." in revision.split("/")):
        raise WeightsUnavailable(f"{name} has no revision {revision!r}: a branch, a tag or a commit is meant")
    if entry is not None and entry.repo is not None and entry.revision is not None:
        return _HubModel(entry.name, entry.repo, revision or entry.revision, entry)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "-")):
        return _HubModel(name, name, revision or "main", None)
    if re.search(r"[/\\]", name) or name.startswith((".", "~")):
        raise WeightsUnavailable(f"there is no model folder {ref}; `segcli models list` has names to give instead")
    raise WeightsUnavailable(
        f"there is no model {ref!r}: neither a folder here, nor a name in `segcli models list`, nor org/name on the Hub"
        f"{_did_you_mean(name)}"
    )


def _did_you_mean(name: str) -> str:
    known = [spelling for entry in manifest().values() for spelling in (entry.name, entry.repo) if spelling]
    known += [repo.rpartition("/")[2] for repo in known if "/" in repo]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    return f". Did you mean {' or '.join(close)}?" if close else ""


def _from_cache(place: _HubModel) -> CheckpointFiles | None:
    """What huggingface_hub has cached, if that is a configuration and complete weights of one commit."""
    from huggingface_hub import try_to_load_from_cache

    def get(name: str) -> Path | None:
        found = try_to_load_from_cache(place.repo, name, revision=place.revision)
        return Path(found) if isinstance(found, str) else None  # else unknown, or known not to exist

    config = get(CONFIG)
    if config is None:
        return None
    try:
        weights = _gather(get, place.weights)
    except _MissingShards:
        return None
    return _hub_files(place, config, weights, get(PREPROCESSOR), "cache") if weights else None


def _download(place: _HubModel, progress: Progress | None) -> CheckpointFiles:
    """Fetch what is missing. The weights come last, so that a cache that has them has the rest."""
    commit = place.revision

    def get(name: str) -> Path | None:
        return download.fetch(place.repo, name, commit, progress)

    try:
        config = get(CONFIG)
        if config is None:
            raise CheckpointError(f"{place.repo} has no {CONFIG} on the Hub: not a model segcli can read")
        commit = config.parent.name  # a branch may move while we fetch: the rest comes from the same commit
        preprocessor = get(PREPROCESSOR)
        weights = _gather(get, place.weights)
    except _MissingShards as error:
        raise CheckpointError(f"{place.repo} is incomplete on the Hub: {error}") from error
    except download.Unreachable as error:
        raise WeightsUnavailable(_how_to_go_on(place, error)) from error
    except WeightsUnavailable as error:
        raise WeightsUnavailable(f"{error}{'' if place.entry else _did_you_mean(place.repo)}") from error
    if weights is None:
        raise CheckpointError(f"{place.repo} has no weights on the Hub: none of {', '.join(WEIGHTS)} is there")
    return _hub_files(place, config, weights, preprocessor, "download")


def _hub_files(
    place: _HubModel,
    config: Path,
    weights: tuple[Path, ...],
    preprocessor: Path | None,
    source: Literal["cache", "download"],
) -> CheckpointFiles:
    folder = config.parent
    return CheckpointFiles(place.name, folder, config, weights, preprocessor, place.entry, folder.name, source)


def _how_to_go_on(place: _HubModel, error: Exception) -> str:
    from huggingface_hub import constants

    tasks = set(place.entry.tasks if place.entry else TASKS)
    ready = [f"--model {name}" for name, entry in manifest().items() if tasks & set(entry.tasks) and is_here(name)]
    return (
        f"{place.name} is not in the cache ({constants.HF_HUB_CACHE}) and cannot be downloaded now: {error}. "
        f"Where there is a network, run `segcli models pull {place.name}`, copy the folder that "
        f"`segcli models path {place.name}` prints (with the files its links lead to) and give it as --model FOLDER"
        f"{'' if place.entry else _did_you_mean(place.repo)}. "
        + (f"Ready without a download: {', '.join(ready)}" if ready else _other_tasks(tasks))
    )


def _other_tasks(tasks: set[Task]) -> str:
    """What can be done on this machine where no model for some tasks is on it."""
    ready = [
        f"--task {task} --model {name}"
        for task in TASKS
        if task not in tasks
        for name in [next((name for name, entry in manifest().items() if task in entry.tasks and is_here(name)), None)]
        if name
    ]
    return f"No model for {' or '.join(sorted(tasks))} is on this machine; ready for other tasks: {', '.join(ready)}"


def known(name: str) -> ManifestEntry:
    """The row of weights.toml for a name in any spelling. Raises WeightsUnavailable, with similar names."""
    entry = lookup(name)
    if entry is None:
        raise WeightsUnavailable(f"no {name!r} in `segcli models list`{_did_you_mean(name)}")
    return entry


def is_here(name: str) -> Literal["bundled", "cached"] | None:
    """Whether a model of weights.toml needs no download, and why."""
    entry = manifest()[name]
    if entry.bundled_folder is not None:
        return "bundled" if (entry.bundled_folder / CONFIG).is_file() else None
    return "cached" if _from_cache(_place(name)) else None
