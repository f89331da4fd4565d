"""The same random weights in this package and in transformers."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.bench.settings import FIRST_WORD
from onlooker.language.foreign import other_library


def transformers() -> Any:
    """The peer, silent, with the torchvision of `make bench` where there is one.

    Raises:
        MissingExtraError: it is not installed.
    """
    _find_torchvision()
    library = other_library("bench", "`onlooker bench` measures against it.")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def _find_torchvision() -> None:
    """Its video processors need torchvision, which `make bench` puts beside the environment: where torch is built for
    CPUs only, torchvision fails when it registers its GPU kernels, which are therefore left out.
    """
    folder = Path(sys.prefix) / "oracle"
    if "torchvision" in sys.modules or not (folder / "torchvision").is_dir():
        return
    sys.path.append(str(folder))
    register = torch.library.register_fake

    def skip_torchvision(op: Any, func: Any = None, **options: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return (lambda given: given) if func is None else func
        return register(op, func, **options)

    torch.library.register_fake = skip_torchvision
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = register


def versions() -> dict[str, str]:
    """Of everything that the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    return {
        "onlooker": sys.modules["onlooker"].__version__,
        "transformers": transformers().__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": cpu,
    }


@dataclass
class Peers:
    """A model here (in several roundings, by name) and in transformers, which reads it in any dtype."""

    ours: dict[str, Any]
    theirs: Any
    folder: Path
    read: Callable[[torch.dtype], Any]

    @cached_property
    def _exact(self) -> Any:
        return self.read(torch.float32)

    def exact(self) -> Any:
        """Theirs computing in float32 with the same weights, made when it is first asked for."""
        return self._exact


@contextmanager
def both(
    model_class: Any,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    quantizations: Mapping[str, Any] | None = None,
) -> Iterator[Peers]:
    """Load one folder of random weights in both libraries, each as its users do.

    Args:
        quantizations: name -> `quantization` of `from_pretrained`; "" with None is there always.
    """
    library = transformers()
    with tempfile.TemporaryDirectory() as name:
        folder = write_random(model_class, config, dtype, Path(name))
        peer_class = getattr(library, model_class.__name__)

        def read(dtype: torch.dtype) -> Any:
            return peer_class.from_pretrained(folder, dtype=dtype).eval()

        theirs = read(dtype)
        ours = {
            key: model_class.from_pretrained(folder, dtype=dtype, quantization=value).eval()
            for key, value in ({"": None} | dict(quantizations or {})).items()
        }
        yield Peers(ours, theirs, folder, read)


def write_random(model_class: Any, config: Mapping[str, Any], dtype: torch.dtype, folder: Path) -> Path:
    """Write a folder of a model with random weights.

    Words differ in how loud they are, as those of trained models do, so that few choices between them are near ties.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        made = model_class(model_class.config_class(**config)).to(dtype)
    model = made.to_empty(device="cpu")
    model.tie_weights()
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.02)
            else:
                parameter.fill_(float(name.endswith("weight")))
        if isinstance(head, nn.Linear):
            head.weight *= torch.randn(len(head.weight), 1).exp_().to(dtype)
    model.save_pretrained(folder)
    return folder


def num_bytes(model: nn.Module) -> int:
    """Of all parameters and buffers, shared ones once."""
    tensors = {tensor.data_ptr(): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def random_words(count: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Ids [1, count] of ordinary words."""
    return torch.randint(FIRST_WORD, vocabulary, (1, count), generator=torch.Generator().manual_seed(seed))
