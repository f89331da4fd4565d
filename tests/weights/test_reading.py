"""Weight files of every kind are read as they are, and damaged ones are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onlooker.errors import CheckpointError, ModelNotFoundError
from onlooker.weights import reading
from onlooker.weights.reading import Reader, find_weights

from .nets import IDS, Net, net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net().save_pretrained(tmp_path)
    return tmp_path


def logits(model: Net) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("shard_size", ["5GB", 400])
def test_single_and_sharded_safetensors_and_bin_give_the_same_model(tmp_path: Path, safe: bool, shard_size) -> None:
    model = net()
    model.save_pretrained(tmp_path, safe_serialization=safe, max_shard_size=shard_size)
    stem = "model" if safe else "pytorch_model"
    assert (len(list(tmp_path.glob(f"{stem}-*"))) > 1) == (shard_size == 400)
    assert torch.equal(logits(Net.from_pretrained(tmp_path)), logits(model))


def test_bin_files_are_refused_on_request(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ModelNotFoundError, match=r"has \.bin files, which use_safetensors=True refuses"):
        Net.from_pretrained(tmp_path, use_safetensors=True)


def test_safetensors_win_over_bin_unless_bin_is_asked_for(folder: Path) -> None:
    other = net()
    with torch.no_grad():
        other.scale.fill_(3)
    torch.save(other.state_dict(), folder / "pytorch_model.bin")
    assert Net.from_pretrained(folder).scale.unique().item() == 1
    assert Net.from_pretrained(folder, use_safetensors=False).scale.unique().item() == 3


def test_old_bin_files_that_are_no_zip_archives_load(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(net().state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(logits(Net.from_pretrained(folder)), logits(net()))


class _Harmful:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_bin_file_with_code_in_it_is_not_opened(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"embed.weight": torch.zeros(11, 8), "x": _Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="more than tensors"):
        Net.from_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Harmful(), protocol=2))
    with pytest.raises(CheckpointError, match="more than tensors"):
        Net.from_pretrained(folder)
    assert capsys.readouterr().out == ""


def test_a_cut_file_is_named_as_damaged(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*cut short or damaged|Git LFS"):
        Net.from_pretrained(folder)


def test_a_git_lfs_pointer_is_recognised(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        Net.from_pretrained(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path, max_shard_size=400)
    victim = sorted(tmp_path.glob("model-0*"))[1]
    victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name):
        Net.from_pretrained(tmp_path)


def test_a_folder_without_weights_says_what_was_looked_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"no model\.safetensors .* or pytorch_model\.bin"):
        Net.from_pretrained(folder)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_conversion_in_pieces_equals_conversion_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    tensors = {"a": torch.randn(rows, 33), "b": torch.randn(5), "c": torch.tensor(2.5), "d": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(reading, "CHUNK_BYTES", 300)
    for use_safetensors in (True, False):
        heard = []
        for name, stored in find_weights(tmp_path, use_safetensors).items():
            value = Reader().convert(stored, torch.bfloat16, torch.device("cpu"), heard.append)
            assert torch.equal(value, tensors[name].bfloat16())
        assert sum(heard) == sum(t.numel() * 4 for t in tensors.values())


def test_weights_that_need_no_conversion_are_views_that_never_change_the_file(folder: Path) -> None:
    before = load_file(folder / "model.safetensors")
    model = Net.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
        model.offset.add_(1)
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_progress_ends_at_the_total(folder: Path) -> None:
    total = sum(t.numel() * t.element_size() for t in load_file(folder / "model.safetensors").values())
    for dtype in (torch.float32, torch.bfloat16):
        heard: list[tuple[int, int]] = []
        Net.from_pretrained(folder, dtype=dtype, progress=lambda done, of, heard=heard: heard.append((done, of)))
        assert heard[-1] == (total, total)
        assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_an_index_may_list_shards_in_any_order(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path, max_shard_size=400)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        t.numel() * 4 for n, t in net().state_dict().items() if "lm_head" not in n
    )
    index["weight_map"] = dict(reversed(list(index["weight_map"].items())))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(logits(Net.from_pretrained(tmp_path)), logits(net()))
