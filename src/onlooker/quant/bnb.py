"""The documented 8-bit and 4-bit loading: linear layers become those of bitsandbytes while the weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.errors import MissingExtraError

_STORAGE = ("float16", "float32", "int8", "uint8", "float64", "bfloat16")


class BitsAndBytesConfig:
    """How to quantise with bitsandbytes; fields and defaults are those of transformers 4.57.

    Raises:
        ValueError: both 8 and 4 bits are asked for, or a dtype is not known.
        TypeError: a field has another type than documented.
    """

    quant_method = "bitsandbytes"

    def __init__(
        self,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        llm_int8_threshold: float = 6.0,
        llm_int8_skip_modules: list[str] | None = None,
        llm_int8_enable_fp32_cpu_offload: bool = False,
        llm_int8_has_fp16_weight: bool = False,
        bnb_4bit_compute_dtype: torch.dtype | str | None = None,
        bnb_4bit_quant_type: str = "fp4",
        bnb_4bit_use_double_quant: bool = False,
        bnb_4bit_quant_storage: torch.dtype | str | None = None,
        **kwargs: Any,
    ) -> None:
        self._load_in_8bit = _checked("load_in_8bit", load_in_8bit, bool)
        self._load_in_4bit = _checked("load_in_4bit", load_in_4bit, bool)
        _refuse_both(load_in_8bit, load_in_4bit)
        self.llm_int8_threshold = _checked("llm_int8_threshold", llm_int8_threshold, float)
        self.llm_int8_skip_modules = _checked("llm_int8_skip_modules", llm_int8_skip_modules, (list, type(None)))
        self.llm_int8_enable_fp32_cpu_offload = _checked(
            "llm_int8_enable_fp32_cpu_offload", llm_int8_enable_fp32_cpu_offload, bool
        )
        self.llm_int8_has_fp16_weight = _checked("llm_int8_has_fp16_weight", llm_int8_has_fp16_weight, bool)
        self.bnb_4bit_compute_dtype = _dtype("bnb_4bit_compute_dtype", bnb_4bit_compute_dtype, torch.float32)
        self.bnb_4bit_quant_type = _checked("bnb_4bit_quant_type", bnb_4bit_quant_type, str)
        self.bnb_4bit_use_double_quant = _checked("bnb_4bit_use_double_quant", bnb_4bit_use_double_quant, bool)
        if isinstance(bnb_4bit_quant_storage, str) and bnb_4bit_quant_storage not in _STORAGE:
            raise ValueError(
                f"bnb_4bit_quant_storage {bnb_4bit_quant_storage!r}: wanted is one of {', '.join(_STORAGE)}"
            )
        self.bnb_4bit_quant_storage = _dtype("bnb_4bit_quant_storage", bnb_4bit_quant_storage, torch.uint8)
        unknown = set(kwargs) - {"quant_method", "_load_in_8bit", "_load_in_4bit"}  # what to_dict of others adds
        if unknown:
            raise TypeError(f"BitsAndBytesConfig has no {', '.join(sorted(unknown))}")

    @property
    def load_in_8bit(self) -> bool:
        return self._load_in_8bit

    @load_in_8bit.setter
    def load_in_8bit(self, value: bool) -> None:
        _refuse_both(_checked("load_in_8bit", value, bool), self._load_in_4bit)
        self._load_in_8bit = value

    @property
    def load_in_4bit(self) -> bool:
        return self._load_in_4bit

    @load_in_4bit.setter
    def load_in_4bit(self, value: bool) -> None:
        _refuse_both(self._load_in_8bit, _checked("load_in_4bit", value, bool))
        self._load_in_4bit = value

    def is_quantizable(self) -> bool:
        return self.load_in_8bit or self.load_in_4bit

    def quantization_method(self) -> str | None:
        """ "llm_int8", "fp4", "nf4", or None when nothing is quantised."""
        if self.load_in_8bit:
            return "llm_int8"
        return self.bnb_4bit_quant_type if self.load_in_4bit else None

    def to_dict(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        values |= {"load_in_8bit": self.load_in_8bit, "load_in_4bit": self.load_in_4bit}
        values["quant_method"] = self.quant_method
        for name in ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"):
            values[name] = str(values[name]).removeprefix("torch.")
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        defaults = BitsAndBytesConfig().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != defaults[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BitsAndBytesConfig:
        return cls(**values)

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __repr__(self) -> str:
        return f"BitsAndBytesConfig {self.to_json_string()}"


def _checked(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        wanted = kind.__name__ if isinstance(kind, type) else "list of module names"
        raise TypeError(f"{name} must be a {wanted}, not {value!r}")
    return value


def _refuse_both(eight: bool, four: bool) -> None:
    if eight and four:
        raise ValueError("load_in_8bit and load_in_4bit are both True: choose one.")


def _dtype(name: str, value: torch.dtype | str | None, default: torch.dtype) -> torch.dtype:
    if value is None:
        return default
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name} {value!r} is not a torch.dtype or the name of one")
    return dtype


def require_bitsandbytes() -> Any:
    """The package itself.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingExtraError("bitsandbytes", "quant", "It stores weights in 8 or 4 bits.") from error
    return bitsandbytes


def replace_linears(model: nn.Module, config: BitsAndBytesConfig, skip: Iterable[str] = ()) -> list[str]:
    """Swap the linear layers of a model on the meta device for empty ones of bitsandbytes.

    Args:
        skip: names (last piece, or whole dotted path, or part of a path) of modules that stay as they are.

    Returns:
        The paths of the layers that were swapped.

    Raises:
        ValueError: nothing was left to quantise.
    """
    bitsandbytes = require_bitsandbytes()
    kept = tuple(skip)
    paths = [
        path for path, module in model.named_modules() if isinstance(module, nn.Linear) and not _skipped(path, kept)
    ]
    if not paths:
        shown = ", ".join(kept[:6]) + (f" and {len(kept) - 6} more" if len(kept) > 6 else "")
        raise ValueError(f"No linear layer is left to quantise: load without it. Skipped are {shown}.")
    for path in paths:
        parent, _, leaf = path.rpartition(".")
        owner, old = model.get_submodule(parent), model.get_submodule(path)
        with torch.device("meta"):
            layer = _layer(bitsandbytes, old, config)  # type: ignore[arg-type]
        layer.requires_grad_(False)
        layer.train(old.training)
        setattr(owner, leaf, layer)
    return paths


def _skipped(path: str, skip: tuple[str, ...]) -> bool:
    leaf = path.rpartition(".")[2]
    return any(name in (leaf, path) or name + "." in path for name in skip)


def _layer(bitsandbytes: Any, old: nn.Linear, config: BitsAndBytesConfig) -> nn.Module:
    sizes = (old.in_features, old.out_features, old.bias is not None)
    if config.load_in_8bit:
        return bitsandbytes.nn.Linear8bitLt(
            *sizes, has_fp16_weights=config.llm_int8_has_fp16_weight, threshold=config.llm_int8_threshold
        )
    return bitsandbytes.nn.Linear4bit(
        *sizes,
        config.bnb_4bit_compute_dtype,
        compress_statistics=config.bnb_4bit_use_double_quant,
        quant_type=config.bnb_4bit_quant_type,
        quant_storage=config.bnb_4bit_quant_storage,
    )


def store_quantized(owner: nn.Module, leaf: str, value: Tensor, device: torch.device) -> bool:
    """Quantise a weight into its swapped layer; False when the layer is an ordinary one."""
    bitsandbytes = require_bitsandbytes()
    kinds = {
        bitsandbytes.nn.Linear8bitLt: bitsandbytes.nn.Int8Params,
        bitsandbytes.nn.Linear4bit: bitsandbytes.nn.Params4bit,
    }
    kind = kinds.get(type(owner))
    if kind is None or leaf != "weight":
        return False
    options = dict(vars(owner._parameters[leaf]))
    options.pop("SCB", None)
    # Quantisation happens on the way to the device, the CPU included, and only from an unquantised CPU tensor.
    owner._parameters[leaf] = kind(value.to("cpu"), requires_grad=False, **options).to(device)
    return True


def is_quantized(model: nn.Module) -> bool:
    """Whether bitsandbytes layers are in the model (asked without importing the package)."""
    return any(type(module).__module__.startswith("bitsandbytes") for module in model.modules())
