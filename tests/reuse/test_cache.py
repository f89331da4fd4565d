"""Caches: budgets hold at every moment, what is damaged is not there, and everything is counted."""

from __future__ import annotations

import os
import threading
import warnings

import pytest
import torch

from onlooker.reuse import Cache, Entry
from onlooker.reuse.memory import Memory


def key(number: int) -> str:
    return f"{number:064x}"


def entry(number: int, floats: int = 1000) -> Entry:
    return Entry({"a": torch.full((floats,), float(number)), "b": torch.tensor([number])}, {"number": str(number)})


def test_what_was_kept_comes_back_and_hits_and_bytes_are_counted():
    cache = Cache(2**20)
    cache.put("features", key(1), entry(1))
    found = cache.get("features", key(1))
    assert found is not None and found.facts == {"number": "1"} and found.tensors["a"][3] == 1
    assert cache.get("features", key(2)) is None and cache.get("prefix", key(1)) is None
    stats = cache.stats()
    assert stats.hits == {"features": 1} and stats.misses == {"features": 1, "prefix": 1}
    assert stats.entries == 1 and stats.bytes == entry(1).nbytes > 4000 and stats.memory_bytes == 2**20
    assert stats.to_dict()["folder_used"] == 0
    cache.clear()
    assert cache.stats().bytes == 0 and cache.get("features", key(1)) is None


def test_the_least_recently_used_entry_goes_first():
    size = entry(0).nbytes
    memory = Memory(3 * size)
    for number in range(3):
        memory.put(key(number), entry(number))
    memory.get(key(0))
    memory.put(key(3), entry(3))
    assert [number for number in range(4) if key(number) in memory] == [0, 2, 3]
    assert memory.bytes == 3 * size and memory.evicted == 1


def test_an_entry_over_the_budget_is_refused_and_takes_the_place_of_nothing_else():
    memory = Memory(entry(0).nbytes + 100)
    memory.put(key(0), entry(0))
    assert not memory.put(key(1), entry(1, floats=5000))
    assert key(0) in memory and memory.refused == 1
    memory.put(key(0), entry(0, floats=10))
    assert memory.bytes == entry(0, floats=10).nbytes


def test_a_view_counts_all_that_it_keeps_alive():
    whole = torch.zeros(10_000)
    assert Entry({"a": whole[:10], "b": whole[10:20]}).nbytes >= 40_000
    assert Entry({"a": whole[:10], "b": whole[10:20]}).nbytes < 80_000


def test_the_budget_holds_at_every_moment_under_load_from_threads():
    budget = 7 * entry(0).nbytes
    cache, stopped, peaks, wrong = Cache(budget), threading.Event(), [0], []

    def watch() -> None:
        while not stopped.is_set():
            peaks[0] = max(peaks[0], cache.stats().bytes)

    def work(seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        for _ in range(300):
            number, size = torch.randint(0, 30, (2,), generator=random).tolist()
            found = cache.get("features", key(number))
            if found is not None and found.tensors["b"].item() != number:
                wrong.append(number)
            cache.put("features", key(number), entry(number, floats=100 * size))

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stopped.set()
    watcher.join()
    held = cache.memory._entries.values()
    assert not wrong and peaks[0] <= budget and cache.memory.bytes == sum(size for _, size in held) <= budget


def test_a_budget_below_zero_is_refused():
    with pytest.raises(ValueError, match="memory_bytes is -1"):
        Cache(-1)
    with pytest.raises(ValueError, match="folder_bytes is -1"):
        Cache(0, folder="x", folder_bytes=-1)


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_the_folder_outlives_the_process_with_every_dtype(tmp_path):
    kept = Entry(
        {
            "half": torch.randn(3, 4).to(torch.bfloat16),
            "whole": torch.arange(5),
            "turned": torch.randn(4, 6).T,
            "empty": torch.zeros(0, 3),
            "one": torch.tensor(2.5),
        },
        {"kind": "video"},
    )
    Cache(0, tmp_path).put("features", key(1), kept)
    cache = Cache(2**20, tmp_path)
    found = cache.get("features", key(1), torch.device("cpu"))
    assert found is not None and found.facts == {"kind": "video"} and set(found.tensors) == set(kept.tensors)
    assert all(torch.equal(found.tensors[name], each) for name, each in kept.tensors.items())
    assert all(found.tensors[name].dtype == each.dtype for name, each in kept.tensors.items())
    assert cache.get("features", key(1)) is found and cache.stats().folder_hits == 1  # the second time from memory


def test_tensors_that_share_memory_are_written_whole(tmp_path):
    whole = torch.arange(10.0)
    Cache(0, tmp_path).put("features", key(1), Entry({"a": whole[:4], "b": whole[2:6], "c": whole}))
    found = Cache(0, tmp_path).get("features", key(1))
    assert found is not None and found.tensors["b"].tolist() == [2, 3, 4, 5] and len(found.tensors["c"]) == 10


def damaged(data: bytes) -> dict[str, bytes]:
    flipped = bytearray(data)
    flipped[-100] ^= 1
    return {
        "cut": data[: len(data) // 2],
        "flipped": bytes(flipped),
        "empty": b"",
        "text": b"not a tensor in sight",
        "header": data[:4] + b"\xff" * 8 + data[12:],
        "longer": data + b"more",
    }


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "text", "header", "longer"])
def test_a_damaged_file_is_a_miss_and_is_written_again(tmp_path, kind):
    cache = Cache(0, tmp_path)
    cache.put("features", key(1), entry(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damaged(path.read_bytes())[kind])
    assert cache.get("features", key(1)) is None
    cache.put("features", key(1), entry(1))
    assert cache.get("features", key(1)) is not None


def test_a_foreign_file_is_a_miss_and_is_left_alone(tmp_path):
    from safetensors.torch import save_file

    cache = Cache(0, tmp_path, folder_bytes=300_000)
    theirs = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100_000)}, theirs)
    save_file({"a": torch.zeros(10)}, tmp_path / f"features-{key(1)}.safetensors")  # a name of ours
    cache.put("features", key(2), entry(2))
    (tmp_path / f"features-{key(2)}.safetensors").rename(tmp_path / f"features-{key(3)}.safetensors")
    (tmp_path / f"features-{key(4)}.safetensors").mkdir()
    assert [cache.get("features", key(number)) for number in (1, 2, 3, 4)] == [None] * 4
    for number in range(5, 15):
        cache.put("features", key(number), entry(number))
    cache.clear(folder=True)
    assert theirs.exists()


def test_the_folder_keeps_its_budget_and_what_was_used_last(tmp_path):
    one = 70_000  # what an entry of 1000 floats is taken for, with room for its header
    cache = Cache(0, tmp_path, folder_bytes=3 * one)
    for number in range(8):
        cache.put("features", key(number), entry(number, floats=10_000))
        os.utime(tmp_path / f"features-{key(number)}.safetensors", (number, number))
        if number > 2:
            assert cache.get("features", key(2)) is not None  # which makes it the newest
            os.utime(tmp_path / f"features-{key(2)}.safetensors", (number + 0.5, number + 0.5))
        assert cache.stats().folder_used <= 3 * one
    assert cache.get("features", key(7)) is not None and cache.get("features", key(4)) is None
    cache.put("features", key(9), entry(9, floats=10**5))
    assert cache.get("features", key(9)) is None  # larger than the whole budget


def test_parts_of_a_process_that_died_are_cleared_away(tmp_path):
    cache = Cache(0, tmp_path)
    old, young = (tmp_path / f".features-{key(number)}.safetensors.1-{number}.part" for number in (1, 2))
    for part in (old, young):
        part.write_bytes(b"x" * 100)
    os.utime(old, (1, 1))
    cache.put("features", key(3), entry(3))
    assert not old.exists() and young.exists()


def test_a_folder_that_cannot_be_written_to_is_said_once_and_costs_no_answer(tmp_path):
    cache = Cache(2**20, tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_text("a file in its place")
    with pytest.warns(UserWarning, match="cannot write to the cache folder"):
        cache.put("features", key(1), entry(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put("features", key(2), entry(2))
    assert cache.get("features", key(2)) is not None


def test_threads_share_a_folder(tmp_path):
    cache, wrong = Cache(0, tmp_path, folder_bytes=400_000), []

    def work(seed: int) -> None:
        for number in range(10):
            cache.put("features", key(number % 3), entry(number % 3))
            found = cache.get("features", key(number % 3))
            if found is not None and found.tensors["b"].item() != number % 3:
                wrong.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not list(tmp_path.glob("*.part"))
