"""Finding and downloading a model's files: folders, the cache, and a Hub that fails in every way it does in life.

The Hub is a server on the loopback interface. Xet is switched off: its protocol is not tested here.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import huggingface_hub.file_download
import pytest
from huggingface_hub import close_session, constants

from segcli.errors import CheckpointError, UsageError, WeightsUnavailable
from segcli.weights import download, hub, hub_guard
from segcli.weights.manifest import ManifestEntry, manifest
from segcli.weights.publish import push

from .fake_hub import FakeHub, Fault

REPO = "someone/a-model"
OFFICIAL = "facebook/mask2former-swin-base-ade-semantic"  # its revision is main
COMMIT, LATER = "a" * 40, "b" * 40
WEIGHTS = bytes(range(256)) * 2000
FILES = {
    "config.json": b'{"model_type": "mask2former"}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": WEIGHTS,
}


@pytest.fixture
def server() -> Iterator[FakeHub]:
    server = FakeHub()
    for repo in (REPO, OFFICIAL):
        server.repos[repo] = {COMMIT: dict(FILES)}
        server.heads[repo] = COMMIT
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts, ours and huggingface_hub's, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(download, "sleep", waited.append)
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture(autouse=True)
def hub_here(server: FakeHub, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Points huggingface_hub, which has read its environment already, to the server and to an empty cache."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield cache
    leftovers = [path for path in cache.rglob("*.incomplete") if path.stat().st_size > len(WEIGHTS)]
    assert not leftovers


@pytest.fixture
def block_network(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a network call")

    def block() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)

    return block


def contents(files: hub.CheckpointFiles) -> dict[str, bytes]:
    assert files.preprocessor is not None
    paths = (files.config, files.preprocessor, *files.weights)
    assert all(path.parent == files.folder for path in paths)
    return {path.name: path.read_bytes() for path in paths}


# ------------------------------------------------------------------------------------------------------------ success


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_downloads_once_then_needs_no_network(
    server: FakeHub, block_network: Callable[[], None], revision: str
) -> None:
    shown: dict[str, tuple[int | None, int]] = {}

    @contextmanager
    def progress(name: str, size: int | None) -> Iterator[Callable[[int], None]]:
        arrived: list[int] = []
        yield arrived.append
        shown[name] = (size, sum(arrived))

    assert hub.find(REPO + revision) is None
    files = hub.locate(REPO + revision, progress=progress)
    assert (files.source, files.name, files.revision, files.entry) == ("download", REPO, COMMIT, None)
    assert contents(files) == FILES
    assert shown == {name: (len(body), len(body)) for name, body in FILES.items()}

    block_network()
    again = hub.locate(REPO + revision)
    assert again.source == "cache"
    assert contents(again) == FILES
    assert hub.find(REPO + revision) == again


def test_the_token_goes_to_the_hub_and_not_to_its_storage(server: FakeHub) -> None:
    hub.locate(REPO)
    assert all(headers["authorization"] == "Bearer hf_secret" for headers in server.requests("HEAD", "/resolve/"))
    assert server.requests("GET", "/cdn/")
    assert all("authorization" not in headers for headers in server.requests("GET", "/cdn/"))


def test_all_files_are_of_one_commit(server: FakeHub) -> None:
    """main moves after config.json has come in."""
    server.repos[REPO][LATER] = {name: body[::-1] for name, body in FILES.items()}
    fetch = download.fetch

    def fetch_then_move(repo: str, name: str, revision: str, progress: download.Progress | None) -> Path | None:
        path = fetch(repo, name, revision, progress)
        server.heads[REPO] = LATER
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "fetch", fetch_then_move)
        assert contents(hub.locate(REPO)) == FILES


def test_a_known_model_by_every_name(server: FakeHub) -> None:
    files = hub.locate("swin-base-ade-semantic")
    assert files.source == "download"
    assert files.entry is manifest()["swin-base-ade-semantic"]
    assert hub.is_here("swin-base-ade-semantic") == "cached"
    for name in ("mask2former-swin-base-ade-semantic", OFFICIAL, f"{OFFICIAL}@{COMMIT}"):
        again = hub.find(name)
        assert again is not None
        assert (again.name, again.entry, again.source) == (files.name, files.entry, "cache")


def test_weights_in_the_order_of_preference(server: FakeHub) -> None:
    shards = {"model-1-of-2.safetensors": b"one", "model-2-of-2.safetensors": b"two"}
    index = json.dumps({"weight_map": {"a": "model-2-of-2.safetensors", "b": "model-1-of-2.safetensors"}}).encode()
    files = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    server.repos[REPO][COMMIT] = files
    assert [path.name for path in hub.locate(f"{REPO}@{COMMIT}").weights] == ["pytorch_model.bin"]
    server.repos[REPO][LATER] = files | {"model.safetensors.index.json": index} | shards
    located = hub.locate(f"{REPO}@{LATER}")
    assert [path.read_bytes() for path in located.weights] == [b"one", b"two"]
    assert located.preprocessor is None
    found = hub.find(f"{REPO}@{LATER}")
    assert found is not None
    assert found.weights == located.weights


def test_a_known_bin_is_asked_for_at_once_and_other_weights_if_it_has_gone(server: FakeHub) -> None:
    name = "swin-base-IN21k-ade-semantic"
    repo = manifest()[name].repo
    assert repo is not None
    server.heads[repo] = COMMIT
    server.repos[repo] = {COMMIT: FILES | {"pytorch_model.bin": b"pickle"}}
    assert [path.name for path in hub.locate(name).weights] == ["pytorch_model.bin"]
    assert not server.requests("HEAD", "model.safetensors")
    server.heads[repo] = LATER
    server.repos[repo][LATER] = FILES
    assert [path.name for path in hub.locate(f"{name}@{LATER}").weights] == ["model.safetensors"]


# ------------------------------------------------------------------------------------------------- passing failures


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut")],
        [Fault("cut", times=3)],
        [Fault("short")],
        [Fault("long")],
        [Fault("wrong")],
        [Fault(500)],
        [Fault(503, times=2)],
        [Fault(429)],
        [Fault(500, "HEAD", "model.safetensors")],
        [Fault(429, "HEAD", "config.json", times=2)],
        [Fault(502, "GET", "config.json"), Fault("cut", "GET", "config.json")],
    ],
    ids=lambda faults: " ".join(f"{f.method} {f.what} x{f.times}" for f in faults),
)
def test_a_passing_failure_is_overcome(server: FakeHub, faults: list[Fault]) -> None:
    server.faults = list(faults)
    assert contents(hub.locate(REPO)) == FILES
    assert not server.faults  # each of them did happen


def test_a_cut_download_goes_on_where_it_was(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is lost at most
    server.faults = [Fault("cut")]
    assert contents(hub.locate(REPO)) == FILES
    first, second = server.requests("GET", "/cdn/")
    assert "range" not in first
    kept = int(second["range"].removeprefix("bytes=").removesuffix("-"))
    assert len(WEIGHTS) // 2 - 1000 <= kept <= len(WEIGHTS) // 2


def test_waits_get_longer_and_as_long_as_the_server_asks(server: FakeHub, waits: list[float]) -> None:
    server.faults = [Fault(503, "HEAD", "config.json", times=3)]
    server.faults += [Fault(429, "HEAD", "config.json", headers={"Retry-After": "17"})]
    server.faults += [
        Fault(429, "HEAD", "config.json", headers={"Retry-After": "99999", "RateLimit": '"a";r=0;t=99999'})
    ]
    hub.locate(REPO)
    assert waits == [1.0, 2.0, 18.0, 61.0]


# --------------------------------------------------------------------------------------------------- lasting failures


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(401, "HEAD", headers={"X-Error-Code": "GatedRepo"}), "gated.*accept its conditions.*HF_TOKEN"),
        (Fault(403, "HEAD", headers={"X-Error-Code": "GatedRepo"}), "gated"),
        (Fault(401, "HEAD", headers={"X-Error-Message": "Invalid credentials in Authorization header"}), "HF_TOKEN"),
        (Fault(403, "HEAD"), r"refuses access to someone/a-model.*403.*HF_TOKEN"),
        (Fault(404, "HEAD", headers={"X-Error-Code": "RepoNotFound"}), "no repository someone/a-model"),
        (Fault(410, "HEAD"), "HTTP error 410"),
    ],
)
def test_a_refusal_is_final(server: FakeHub, waits: list[float], fault: Fault, complaint: str) -> None:
    fault.path = "config.json"
    server.faults = [fault]
    with pytest.raises(WeightsUnavailable, match=complaint):
        hub.locate(REPO)
    assert not waits
    assert len(server.seen) == 1


def test_what_is_not_there(server: FakeHub) -> None:
    with pytest.raises(WeightsUnavailable, match="no revision 'cccc"):
        hub.locate(f"{REPO}@{'c' * 40}")
    with pytest.raises(
        WeightsUnavailable, match="no repository facebook/mask2former-swin-tiny-coco-panotpic"
    ) as caught:
        hub.locate("facebook/mask2former-swin-tiny-coco-panotpic")
    assert "Did you mean facebook/mask2former-swin-tiny-coco-panoptic" in str(caught.value)
    server.repos[REPO][COMMIT] = {"README.md": b""}
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        hub.locate(REPO)
    server.repos[REPO][COMMIT] = {"config.json": b"{}"}
    with pytest.raises(CheckpointError, match="no weights"):
        hub.locate(REPO)


@pytest.mark.parametrize("what", ["short", "wrong", "cut", 500, 429])
def test_a_failure_that_stays_leaves_nothing_half(server: FakeHub, hub_here: Path, what: int | str) -> None:
    server.faults = [Fault(what, times=1000)]
    with pytest.raises(WeightsUnavailable, match=r"model\.safetensors") as caught:
        hub.locate(REPO)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert hub.find(REPO) is None
    assert not [path for path in hub_here.rglob("*") if path.name == "model.safetensors"]
    server.faults = []
    assert contents(hub.locate(REPO)) == FILES


# ----------------------------------------------------------------------------------------------------- hostile servers


@pytest.mark.parametrize("name", ["ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash"])
@pytest.mark.parametrize("before", [[], ["gone"], [503], [503, "gone"]], ids=str)
def test_names_that_lead_out_of_the_cache_are_refused(
    server: FakeHub, tmp_path: Path, name: str, before: list[int | str]
) -> None:
    prey = tmp_path / "prey"
    prey.write_bytes(b"mine")
    for value in ("../" * 20 + str(prey), str(prey), '"../../prey"', 'W/"..%2fprey"', "a" * 200, "a/b", ".."):
        server.faults = [Fault(what, "HEAD", "config.json") for what in before]
        server.faults += [Fault("odd", method, "/resolve/", {name: value}, times=99) for method in ("HEAD", "GET")]
        with pytest.raises(WeightsUnavailable, match="is not a Hugging Face Hub: its") as caught:
            hub.locate(REPO)
        assert (caught.value.exit_code, "\n" in str(caught.value)) == (3, False)
        assert prey.read_bytes() == b"mine"
        assert {path.name for path in tmp_path.iterdir()} <= {"prey", "cache"}


def test_they_are_refused_where_only_a_later_answer_has_them(server: FakeHub, tmp_path: Path) -> None:
    """huggingface_hub asks again by itself, and makes itself a new client where a connection failed."""
    prey = str(tmp_path / "prey")
    metadata = huggingface_hub.get_hf_file_metadata

    def then_odd(*args: object, **options: object) -> object:
        facts = metadata(*args, **options)  # type: ignore[arg-type]
        close_session()
        server.faults = [Fault("odd", method, "/resolve/", {"ETag": prey}, times=99) for method in ("HEAD", "GET")]
        return facts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub, "get_hf_file_metadata", then_odd)
        with pytest.raises(WeightsUnavailable, match="its etag header"):
            hub.locate(REPO)
    assert not Path(prey).exists()


def test_a_quoted_or_weak_checksum_is_one(server: FakeHub) -> None:
    for etag in ('W/"00ff"', "00FF-3"):
        server.faults = [Fault("odd", "HEAD", "config.json", {"ETag": etag}, times=2)]
        assert contents(hub.locate(REPO)) == FILES


def test_a_commit_of_a_file_that_is_not_there_makes_no_file_elsewhere(server: FakeHub, tmp_path: Path) -> None:
    """huggingface_hub remembers what does not exist, under the commit that the answer names."""
    del server.repos[REPO][COMMIT]["preprocessor_config.json"]
    server.faults = [Fault("odd", "HEAD", "preprocessor", {"X-Repo-Commit": "../../../../out"}, times=9)]
    with pytest.raises(WeightsUnavailable, match="its x-repo-commit header"):
        hub.locate(REPO)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_damaged_file_is_removed_but_not_what_its_link_leads_to_elsewhere(
    server: FakeHub, hub_here: Path, tmp_path: Path
) -> None:
    prey = tmp_path / "prey"
    prey.write_bytes(b"mine")
    folder = hub_here / "models--someone--a-model" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "model.safetensors").symlink_to(prey)
    server.faults = [Fault("wrong", times=99)]
    with pytest.raises(WeightsUnavailable, match="damaged"):
        hub.locate(REPO)
    assert prey.read_bytes() == b"mine"


def test_a_transfer_that_drips_has_stalled(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_guard, "STALL_SECONDS", 0.2)
    server.faults = [Fault("drip")]
    with pytest.raises(WeightsUnavailable, match=r"the download has stalled: \d+ bytes arrived in 0 seconds"):
        hub.locate(REPO)


@pytest.mark.parametrize("name", ["/cdn/", "/config.json"])
def test_a_file_without_an_end_is_cut(server: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(hub_guard, "LARGEST_UNANNOUNCED", 5 << 20)
    server.faults = [Fault("endless", "HEAD", name, times=99), Fault("endless", "GET", name, times=99)]
    with pytest.raises(WeightsUnavailable, match=r"more than the \d+ bytes announced arrived|not a Hugging Face Hub"):
        hub.locate(REPO)


def test_a_revision_is_a_name(server: FakeHub) -> None:
    for revision in ("../../out", "a/../b", "/out"):
        with pytest.raises(WeightsUnavailable, match="no revision"):
            hub.locate(f"{REPO}@{revision}")
    assert not server.seen


def test_no_network_and_nothing_cached(server: FakeHub, waits: list[float]) -> None:
    server.close()
    with pytest.raises(WeightsUnavailable) as caught:
        hub.locate("swin-base-ade-semantic")
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    for part in (constants.HF_HUB_CACHE, server.url, "segcli models pull swin-base-ade-semantic", "--model FOLDER"):
        assert part in message
    assert "Ready without a download: " in message
    assert waits == [0.5]  # no patience with a network that is not there


def test_a_network_that_goes_away_leaves_the_cache(server: FakeHub) -> None:
    hub.locate(REPO)
    server.close()
    assert hub.locate(REPO).source == "cache"


def test_a_cache_that_cannot_be_written(server: FakeHub, hub_here: Path) -> None:
    hub_here.write_text("in the way of the cache's folder")
    with pytest.raises(WeightsUnavailable, match="cannot write to the cache") as caught:
        hub.locate(REPO)
    assert str(hub_here) in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- push


def test_what_is_pushed_is_found_again(server: FakeHub, tmp_path: Path) -> None:
    folder = write(tmp_path / "best", *FILES, README_DOT_md="# A card")
    write(folder, "notes.txt")
    assert push(folder, "me/mine", private=True) == f"{server.url}/me/mine"
    assert server.private == {"me/mine"}
    commit = server.heads["me/mine"]
    assert server.repos["me/mine"][commit] == FILES | {"README.md": b"# A card"}  # and no other file
    assert all(headers["authorization"] == "Bearer hf_secret" for headers in server.requests("POST", "/api/"))
    assert contents(hub.locate("me/mine")) == FILES
    write(folder, README_DOT_md="# Another")
    push(folder, "me/mine")  # a second time: a commit on top
    assert server.repos["me/mine"][server.heads["me/mine"]]["README.md"] == b"# Another"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (Fault(401, "POST", "/repos/create"), "me/mine cannot be pushed: .*refuses access.*HF_TOKEN"),
        (Fault(403, "POST", "/commit/"), "me/mine cannot be pushed: .*refuses access"),
        (Fault(500, "PUT", "/upload/", times=99), "me/mine cannot be pushed: .*HTTP error 500"),
    ],
)
def test_a_push_that_fails_is_one_line(server: FakeHub, tmp_path: Path, fault: Fault, complaint: str) -> None:
    server.faults = [fault]
    with pytest.raises(WeightsUnavailable, match=complaint) as caught:
        push(write(tmp_path / "best", *FILES), "me/mine")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_pushed(server: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="org/name"):
        push(write(tmp_path / "best", *FILES), "mine")
    with pytest.raises(CheckpointError, match="no such folder"):
        push(tmp_path / "nowhere", "me/mine")
    with pytest.raises(CheckpointError, match="no weights"):
        push(write(tmp_path / "empty", "config.json"), "me/mine")
    server.close()
    with pytest.raises(WeightsUnavailable, match=r"cannot be pushed: .*cannot be reached"):
        push(tmp_path / "best", "me/mine")


# -------------------------------------------------------------------------------------------------------- environment

SCRIPT = """
import sys
from segcli.errors import SegcliError
from segcli.weights.hub import locate
try:
    files = locate(sys.argv[1])
    print(files.source, files.folder)
except SegcliError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, REPO],
        env=clean | {"HF_HUB_DISABLE_XET": "1"} | environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_environment_is_honoured(server: FakeHub, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    offline = run(HF_HOME=home, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert offline.stderr.startswith("3 ")
    assert offline.stderr.count("\n") == 1
    assert "HF_HUB_OFFLINE is set" in offline.stderr

    pulled = run(HF_HOME=home, HF_ENDPOINT=server.url, HF_TOKEN="hf_other")
    assert pulled.stdout.startswith(f"download {home}"), pulled.stderr
    assert server.requests("HEAD")[0]["authorization"] == "Bearer hf_other"

    assert run(HF_HOME=home, HF_HUB_OFFLINE="1").stdout == pulled.stdout.replace("download", "cache")


# ------------------------------------------------------------------------------------------------------ local folders


def write(folder: Path, *names: str, **extra: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILES.get(name, b"x"))
    for name, text in extra.items():
        (folder / name.replace("_DOT_", ".")).write_text(text)
    return folder


def test_a_folder_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FakeHub) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "swin-base-ade-semantic" / "photos")
    assert hub.find("swin-base-ade-semantic") is None  # a folder without config.json is no model
    write(tmp_path / "swin-base-ade-semantic", *FILES)
    files = hub.locate("swin-base-ade-semantic")
    assert (files.source, files.name, files.revision) == ("local", "swin-base-ade-semantic", None)
    assert contents(files) == FILES
    assert not server.seen


def test_a_pulled_and_copied_folder_keeps_its_facts(tmp_path: Path) -> None:
    classes = json.dumps({"id2label": {str(i): "x" for i in range(150)}})
    row = manifest()["swin-base-ade-semantic"]
    cache_like = Path("models--facebook--mask2former-swin-base-ade-semantic", "snapshots", COMMIT)

    def entry_of(name: str | Path, config: str = classes) -> ManifestEntry | None:
        folder = write(tmp_path / name, "pytorch_model.bin", config_DOT_json=config)
        return hub.locate(str(folder)).entry

    assert entry_of(cache_like) is row
    assert entry_of("mask2former-swin-base-ade-semantic") is row
    assert entry_of("swin-base-ade-semantic") is row
    assert entry_of("another") is None
    assert entry_of("swin-base-ade-semantic", '{"id2label": {"0": "x"}}') is None
    assert entry_of("swin-base-ade-semantic", classes[:-1] + ', "segcli": {}}') is None
    assert entry_of("swin-base-ade-semantic", "not JSON") is None


def test_a_run_is_no_model_but_has_one(tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"run has no config\.json: .* this is a run, its model is .*best$"):
        hub.locate(str(tmp_path / "run"))


def test_a_folder_that_lacks_something(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model has no config\.json"):
        hub.locate(str(folder))
    (folder / "model.safetensors").rename(folder / "config.json")
    with pytest.raises(CheckpointError, match=r"no weights: none of model\.safetensors"):
        hub.locate(str(folder))
    write(folder, **{"model.safetensors.index.json": '{"weight_map": {"a": "one.safetensors"}}'})
    with pytest.raises(CheckpointError, match=r"incomplete: .*names one\.safetensors"):
        hub.locate(str(folder))
    write(folder, "one.safetensors")
    assert [path.name for path in hub.locate(str(folder)).weights] == ["one.safetensors"]
    for index in ("[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": "../one.safetensors"}}'):
        write(folder, **{"model.safetensors.index.json": index})
        with pytest.raises(CheckpointError, match="not an index"):
            hub.locate(str(folder))
    with pytest.raises(CheckpointError, match="is a file"):
        hub.locate(str(folder / "config.json"))


@pytest.mark.parametrize(
    ("ref", "complaint"),
    [
        ("swin-tiny-coco-panotpic", "Did you mean swin-tiny-coco-panoptic"),
        ("resnet", "neither a folder here, nor a name"),
        ("./nowhere", "no model folder ./nowhere"),
        ("/nowhere/at/all", "no model folder /nowhere/at/all"),
        ("a/b/c", "no model folder a/b/c"),
        ("C:\\models", "no model folder"),
    ],
)
def test_a_reference_to_nothing(ref: str, complaint: str, server: FakeHub) -> None:
    with pytest.raises(WeightsUnavailable, match=complaint):
        hub.locate(ref)
    assert not server.seen


def test_an_empty_reference_is_wrong_use() -> None:
    with pytest.raises(UsageError):
        hub.locate(" ")


def test_models_of_runs_are_told_apart(tmp_path: Path) -> None:
    for folder, name in (("a-1/best", "a-1/best"), ("a-2/best", "a-2/best"), ("a-1/mine", "mine")):
        place = tmp_path / folder
        place.mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            (place / file).write_text("{}")
        assert hub.find(str(place)).name == name
