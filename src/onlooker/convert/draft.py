"""What a new folder is made of: the pieces that every kind of source is read into before anything is written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from onlooker.config import Config
from onlooker.weights.reading import StoredTensor, scan_file


@dataclass
class Draft:
    """A checkpoint before it is written."""

    kind: str  # the source, in words
    model_class: Any
    config: Config
    stored: Mapping[str, StoredTensor]  # by published names
    save_processor: Callable[[Path], Any]
    token_rows: int = 0  # that the vocabulary needs; 0 leaves it as it is
    pad_token_id: int | None = None  # of the language model, when it lies among the new rows
    dtype: str | None = None  # to write in; None keeps what is stored
    generation_from: str | Path | None = None  # where generation_config.json may be
    hub: Mapping[str, Any] = field(default_factory=dict)  # options to find that with
    dropped: list[str] = field(default_factory=list)  # tensors without a place in the model, by the file's names


class Computed:
    """Tensors that no file holds as they are wanted, in a file of their own until the new folder is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0

    def keep(self, tensors: Mapping[str, Tensor]) -> dict[str, StoredTensor]:
        """Write them; gives where they are."""
        if not tensors:
            return {}
        from safetensors.torch import save_file

        file = self._folder / f"computed-{self._files}.safetensors"
        self._files += 1
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
        return scan_file(file)


@contextmanager
def computed() -> Iterator[Computed]:
    """A place for computed tensors that goes when it is left."""
    folder = Path(tempfile.mkdtemp(prefix="onlooker-"))
    try:
        yield Computed(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
