"""Writes a draft as a complete folder, and checks it by reading it back before it gets its name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from onlooker.config import CONFIG_FILE
from onlooker.convert.draft import Draft
from onlooker.errors import CheckpointError
from onlooker.pretrained.load import Request, load
from onlooker.quant.weights import WeightQuantization
from onlooker.weights.reading import Reader, find_weights

#: called with what is being done ("reading", "writing" or "checking"), and bytes done and in total
Progress = Callable[[str, int, int], None]

_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
_KEPT = ("LICENSE*", "NOTICE*", "USE_POLICY*")  # go with the weights


def check_target(out: Path, source: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse a target that would lose something.

    Raises:
        NotADirectoryError: a file.
        FileExistsError: a folder with something in it, without `force`.
        ValueError: the source itself.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder for the new checkpoint")
    if Path(source).exists() and out.resolve() in (Path(source).resolve(), *Path(source).resolve().parents):
        raise ValueError(f"{out} is the source, or holds it; give another folder, which is put in its place by you")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FileExistsError(f"{out} is not empty; give another folder, or --force (force=True) to write into it")


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder next to `out` to write in, gone at the end."""
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = out.absolute().parent / f".{out.absolute().name}.part"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build(
    draft: Draft, source: str, dtype: str | None, progress: Progress, weights: WeightQuantization | None = None
) -> Any:
    """The model of a draft, with every tensor in its place, the vocabulary grown and the ids set.

    Args:
        weights: the linears that are rounded while they are read.

    Raises:
        CheckpointError: tensors that are missing, left over, or of another shape than the configuration says.
    """
    if dtype is None:
        draft.config.torch_dtype = None  # so that "auto" keeps every tensor as it is stored
    request = Request(
        name=source,
        dtype=dtype or "auto",
        strict=True,
        stored=draft.stored,
        weights=weights,
        progress=lambda done, total: progress("reading", done, total),
    )
    model = load(draft.model_class, draft.config, request)
    if draft.generation_from is not None:
        model._load_generation_config(draft.generation_from, draft.hub)
    if draft.token_rows:
        model.resize_token_embeddings(draft.token_rows, pad_to_multiple_of=64)
    if draft.pad_token_id is not None:
        model.config.get_text_config().pad_token_id = model.generation_config.pad_token_id = draft.pad_token_id
    return model.eval()


def write(model: Any, draft: Draft, folder: Path, max_shard_size: int | str, source: str, progress: Progress) -> int:
    """Write model and processor into an empty folder; gives the bytes of the weights.

    Raises:
        OSError: the disk has no room for it.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"{folder.parent} has {free / 1e9:.1f} GB free, and the new folder needs {size / 1e9:.1f} GB")
    progress("writing", 0, size)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    draft.save_processor(folder)
    for pattern in _KEPT if Path(source).is_dir() else ():
        for file in Path(source).glob(pattern):
            shutil.copy(file, folder)
    progress("writing", size, size)
    return size


def check(model: Any, draft: Draft, folder: Path, progress: Progress) -> int:
    """Read a written folder back and hold every tensor against the model's; gives how many there are.

    Raises:
        CheckpointError: something came back other than it went in.
    """
    names = draft.model_class.disk_names
    tied = model.tied_weights()
    wanted = {
        names.to_file(name) if names else name: tensor
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    found = find_weights(folder)
    wrong = list(wanted.keys() ^ found.keys())
    reader, done = Reader(), 0
    total = sum(tensor.nbytes for tensor in found.values())
    for name in wanted.keys() & found.keys():
        if not torch.equal(reader.convert(found[name], found[name].dtype, torch.device("cpu")), wanted[name]):
            wrong.append(name)
        done += found[name].nbytes
        progress("checking", done, total)
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors came back from {folder} other than they were written "
            f"({', '.join(sorted(wrong)[:5])}): is the disk damaged? Nothing was kept."
        )
    draft.model_class.from_pretrained(folder, dtype="auto", strict=True)
    return len(found)


def move(folder: Path, out: Path) -> None:
    """Give a checked folder its name; of a folder that is there already, weights and files of the same name go."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        if _WEIGHTS.fullmatch(old.name):
            old.unlink()
    for new in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG_FILE):  # what makes it a model comes last
        target = out / new.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(new, target)
