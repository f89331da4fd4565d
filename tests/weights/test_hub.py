"""Names and folders become files: the cache comes first, a fetched model needs no network, errors say what to type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onlooker.errors import ModelNotFoundError
from onlooker.hub import find_file, needed_files, split_hub_options

from .hub_server import Hub

NAME = "someone/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BIG = bytes(range(256)) * 12_000  # 3 MB
FILES = {
    "config.json": b"{}",
    "model.safetensors": BIG,
    "pytorch_model.bin": b"x" * 1000,
    "tf_model.h5": b"y" * 1000,
    "tokenizer.json": b"[]",
    "qformer_tokenizer/vocab.txt": b"a",
    "onnx/model.json": b"{}",
    "README.md": b"# tiny",
    "LICENSE": b"free",
}
NEEDED = ["LICENSE", "config.json", "qformer_tokenizer/vocab.txt", "tokenizer.json", "model.safetensors"]
NO_SOCKETS = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache as other libraries leave it: one snapshot, and a note of a file that the model does not have."""
    folder = tmp_path / "hub" / "models--someone--tiny"
    snapshot = folder / "snapshots" / COMMIT
    (snapshot / "qformer_tokenizer").mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "qformer_tokenizer" / "vocab.txt").write_text("a")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / ".no_exist" / COMMIT).mkdir(parents=True)
    (folder / ".no_exist" / COMMIT / "generation_config.json").touch()
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(NAME)
    server.push(FILES)
    with server.running():
        yield server


def run(hub: Hub, home: Path, code: str, *, check: bool = True) -> str:
    """Run a piece of code in a process whose hub is ours."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    code = "from onlooker.hub import *\nfrom onlooker.hub import plan_fetch, fetch\n" + code
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + ("" if check else done.stderr)


def test_a_folder_wins_over_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "tiny" / "sub").mkdir(parents=True)
    (tmp_path / "someone" / "tiny" / "sub" / "x.json").write_text("{}")
    assert find_file(NAME, "sub/x.json") == Path(NAME, "sub", "x.json")
    assert find_file(NAME, "config.json") is None
    assert find_file(tmp_path / NAME, "sub/x.json", revision="main") == tmp_path / NAME / "sub" / "x.json"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_cached_files_are_used_without_the_network(cache: Path, no_network: None, revision: str | None) -> None:
    options = {"cache_dir": cache, "revision": revision}
    assert find_file(NAME, "config.json", **options).read_text() == "{}"
    assert find_file(NAME, "qformer_tokenizer/vocab.txt", **options).read_text() == "a"
    assert find_file(NAME, "generation_config.json", **options) is None
    assert find_file(NAME, "model.safetensors", local_files_only=True, **options) is None


@pytest.mark.parametrize("revision", ["v2", "f" * 40])
def test_a_model_that_is_nowhere_says_what_to_type(cache: Path, no_network: None, revision: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"'someone/tiny' .*{revision}.*onlooker fetch someone/tiny"):
        find_file(NAME, "config.json", cache_dir=cache, revision=revision, local_files_only=True)


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "a/b/c", "", "-x", Path("some/folder")])
def test_what_is_neither_folder_nor_name_is_refused_before_the_network(name, no_network: None) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        find_file(name, "config.json")


def test_options_of_the_hub_are_parted_from_others() -> None:
    assert split_hub_options({"revision": "x", "hidden_size": 1, "token": None}) == (
        {"revision": "x", "token": None},
        {"hidden_size": 1},
    )


def test_only_what_loading_needs_is_fetched() -> None:
    assert needed_files(FILES) == NEEDED
    assert "pytorch_model.bin" in needed_files(set(FILES) - {"model.safetensors"})
    sharded = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert needed_files([*sharded, "pytorch_model.bin.index.json", "model.fp16.safetensors"]) == sharded


def test_a_fetched_model_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    out = run(
        hub,
        tmp_path,
        f"""
plan = plan_fetch({NAME!r})
print([name for name, _ in plan.files], plan.total_bytes, plan.download_bytes, plan.free_bytes > 0)
heard = []
folder = fetch(plan, progress=lambda *x: heard.append(x))
print(folder.name == plan.commit, heard[-1][0] == heard[-1][1] == plan.total_bytes)
print(plan_fetch({NAME!r}).download_bytes)
""",
    ).splitlines()
    size = sum(len(FILES[name]) for name in NEEDED)
    assert out == [f"{NEEDED} {size} {size} True", "True True", "0"]
    code = f"""
for name in ("config.json", "model.safetensors", "generation_config.json", "model.safetensors.index.json"):
    print(bool(find_file({NAME!r}, name)))
"""
    asked = len(hub.requests)
    assert run(hub, tmp_path, NO_SOCKETS + code).split() == ["True", "True", "False", "False"]
    assert len(hub.requests) == asked


def test_fetching_goes_on_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 2_000_000
    code = f"import huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 100_000\nfetch({NAME!r})"
    said = run(hub, tmp_path, code, check=False)
    assert "Run it again: it goes on from there" in said or "Trying to resume" in said  # huggingface_hub 2 does itself
    hub.break_after = None
    run(hub, tmp_path, f"print(fetch({NAME!r}))")
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert len(ranges) == 2
    assert int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) > 0
    (file,) = tmp_path.rglob("snapshots/*/model.safetensors")
    assert file.read_bytes() == BIG


def test_a_fetched_revision_stays_until_it_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    read = f"print(find_file({NAME!r}, 'config.json').read_text())"
    first = hub.commits[hub.branches["main"]]
    run(hub, tmp_path, f"fetch({NAME!r})")
    hub.push({**first, "config.json": b'{"new": 1}', "extra.json": b"{}"})
    assert run(hub, tmp_path, read).strip() == "{}"
    assert run(hub, tmp_path, f"print(find_file({NAME!r}, 'extra.json'))").strip() == "None"
    # A file that was left out is taken from the pinned commit, never from a newer one.
    pinned = next(commit for commit, files in hub.commits.items() if files is first)
    run(hub, tmp_path, f"find_file({NAME!r}, 'tf_model.h5')")
    assert hub.requests[-1][1] == f"/{NAME}/resolve/{pinned}/tf_model.h5"
    run(hub, tmp_path, f"fetch({NAME!r})")
    assert json.loads(run(hub, tmp_path, read)) == {"new": 1}


def test_a_tag_can_be_fetched_and_loaded_by_its_name(hub: Hub, tmp_path: Path) -> None:
    hub.push({**FILES, "config.json": b"[2]"}, branch="v2")
    run(hub, tmp_path, f"fetch({NAME!r}, revision='v2')")
    code = f"print(find_file({NAME!r}, 'config.json', revision='v2').read_text())"
    assert run(hub, tmp_path, NO_SOCKETS + code).strip() == "[2]"


def test_unknown_models_and_revisions_are_named(hub: Hub, tmp_path: Path) -> None:
    for call in ("find_file('no/body', 'config.json')", "fetch('no/body')"):
        assert "Model 'no/body' (revision 'main') was not found" in run(hub, tmp_path, call, check=False)
    for call in (f"find_file({NAME!r}, 'config.json', revision='v9')", f"fetch({NAME!r}, revision='v9')"):
        assert "has no revision 'v9'" in run(hub, tmp_path, call, check=False)
    assert run(hub, tmp_path, f"print(find_file({NAME!r}, 'nothing.json'))").strip() == "None"


def test_a_hub_that_cannot_be_reached_says_what_to_type(hub: Hub, tmp_path: Path) -> None:
    dead = Hub(NAME)
    dead.url = "http://127.0.0.1:9"
    text = run(dead, tmp_path, f"find_file({NAME!r}, 'config.json')", check=False)
    assert "onlooker fetch someone/tiny" in text.splitlines()[-1]
    assert "Check the connection" in run(dead, tmp_path, f"fetch({NAME!r})", check=False)


def test_a_cached_model_stays_usable_when_the_hub_is_gone_or_drops_it(hub: Hub, tmp_path: Path, cache: Path) -> None:
    code = f"print(find_file({NAME!r}, 'model.safetensors', cache_dir={str(cache)!r}))"
    dead, other = Hub(NAME), Hub("another/model")
    dead.url = "http://127.0.0.1:9"
    with other.running():
        for server in (dead, other):
            start = time.monotonic()
            assert run(server, tmp_path, code).strip() == "None"
            assert time.monotonic() - start < 15  # without the half minute in which a download is tried


def test_a_full_disk_is_noticed_before_the_download(hub: Hub, tmp_path: Path) -> None:
    code = f"""
import shutil
shutil.disk_usage = lambda folder: type("Usage", (), {{"free": 1000}})
fetch({NAME!r})
"""
    assert "needs 0.0 GB" in run(hub, tmp_path, code, check=False)
    assert not list(tmp_path.rglob("model.safetensors"))
