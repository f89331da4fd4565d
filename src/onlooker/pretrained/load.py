"""Builds a model on the meta device and brings it to life from a checkpoint: the steps, in order."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onlooker.config import Config
from onlooker.language.t5_layers import Float32Linear
from onlooker.quant import bnb
from onlooker.quant.linears import QuantizedLinear
from onlooker.quant.packed import pack
from onlooker.quant.weights import (
    WeightQuantization,
    is_weight_quantized,
    replace_linears,
    store_quantized,
)
from onlooker.weights.loading import build_empty, fill, initialise
from onlooker.weights.matching import Match, check_complete, match
from onlooker.weights.placement import (
    DeviceMap,
    device_finder,
    disk_index,
    dispatch,
    on_disk,
    resolve_device_map,
)
from onlooker.weights.policy import POLICIES, DtypePlan, default_dtype, main_dtype, parse_mapping
from onlooker.weights.reading import Reader, StoredTensor, find_weights


@dataclass(frozen=True)
class Request:
    """What the caller of from_pretrained asked for."""

    name: str | Path
    dtype: Any = None
    device_map: Any = None
    max_memory: Mapping[Any, Any] | None = None
    offload_folder: str | Path | None = None
    quantization: Any = None
    load_in_8bit: bool = False
    load_in_4bit: bool = False
    weights: WeightQuantization | None = None
    attn_implementation: str | None = None
    use_safetensors: bool | None = None
    allow_missing: bool = False
    strict: bool = False
    progress: Any = None
    hub: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, StoredTensor] | None = None  # read instead of the weights of `name`


def load(cls: Any, config: Config, request: Request) -> Any:
    """Build `cls(config)` without memory, then give each parameter its place, its dtype and its value."""
    stored_as = WeightQuantization.of(getattr(config, "quantization_config", None))
    _check_one_quantization(request, stored_as)
    quantization = _quantization(request)
    stored = request.stored
    if stored is None:
        stored = find_weights(request.name, request.use_safetensors, **request.hub)
    published = cls.published_names(stored)
    model, found = _build(cls, config, published, request)
    check_complete(
        found,
        cls.__name__,
        str(request.name),
        allow_missing=request.allow_missing,
        strict=request.strict,
    )
    if stored_as is None and request.weights is not None:
        _prepare_weights(model, request.weights)
    plan = _dtype_plan(model, request, is_quantized=quantization is not None)
    plan = _as_stored(model, found, plan)
    _warn_of_t5_in_float16(model, found, plan)
    if quantization is not None:
        _prepare_quantized(model, quantization, plan)
    device_map = _device_map(model, request, plan, quantization)
    offloaded, index, folder = _offload(model, found, plan, device_map, request.offload_folder)
    device_of = device_finder(device_map)
    fill(
        model,
        found.sources,
        plan,
        device_of=device_of,
        skip=offloaded,
        store=_store(quantization, request.weights if stored_as is None else None),
        progress=request.progress,
    )
    initialise(model, found.missing, plan, device_of=device_of, init=getattr(model, "_init_weights", None))
    model.tie_weights()
    if published is not stored:
        model.fit_vocabulary()
    if request.attn_implementation is not None:
        model.set_attn_implementation(request.attn_implementation)
    pack(model)
    dispatch(model, device_map, index, folder)
    if request.device_map is not None:
        model.hf_device_map = device_map
    model.config.torch_dtype = main_dtype(model) if plan.default is None else plan.default
    _warn_of_float16_on_cpu(model)
    return model


def _offload(
    model: Any, found: Match, plan: DtypePlan, device_map: DeviceMap, folder: str | Path | None
) -> tuple[list[str], dict[str, dict[str, Any]], Path | None]:
    """What is not loaded because it stays on disk, and where it is found there; see `disk_index`."""
    tied = model.tied_weights()
    sources = found.sources | {name: found.sources[kept] for name, kept in tied.items() if kept in found.sources}
    names = on_disk(device_map, list(sources))
    index, folder = disk_index(sources, names, plan, folder)
    shared = {kept for name, kept in tied.items() if name not in names}  # a duplicate elsewhere needs the values
    return [name for name in names if name not in tied and name not in shared], index, folder


def _build(cls: Any, config: Config, stored: Mapping[str, StoredTensor], request: Request) -> tuple[Any, Match]:
    """The model on the meta device and what fills it; built again when the file shows that the head is not tied."""
    model, found = _build_once(cls, config, stored, request)
    if _has_own_head(model, found):
        config.get_text_config().tie_word_embeddings = False
        model, found = _build_once(cls, config, stored, request)
    return model, found


def _build_once(cls: Any, config: Config, stored: Mapping[str, StoredTensor], request: Request) -> tuple[Any, Match]:
    own = copy.deepcopy(config)

    def build() -> nn.Module:
        return cls(own)

    model: Any = build_empty(build)
    stored_as = WeightQuantization.of(getattr(own, "quantization_config", None))
    if stored_as is not None:
        replace_linears(model, stored_as, own.get_text_config().model_type)
    found = match(
        _shapes(model),
        stored,
        tied=model.tied_weights(),
        prefixes=cls.part_prefixes,
        rename=cls.rename,
        disk_names=cls.disk_names,
        where=str(request.name),
    )
    return model, found


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _has_own_head(model: Any, found: Match) -> bool:
    """Whether a tied head lies in the file a second time with other values: some writers say tied where it is not."""
    tied = model.tied_weights()
    reader = Reader()
    for name, stored in found.duplicates.items():
        kept = found.sources[tied[name]]
        if reader.same(stored, kept):
            continue
        if name.rpartition("lm_head.")[1]:
            return True
        warnings.warn(
            f"{stored.name} and {kept.name} should be one tensor and differ in the file; {kept.name} is used.",
            stacklevel=5,
        )
    return False


def _dtype_plan(model: Any, request: Request, *, is_quantized: bool) -> DtypePlan:
    wanted = request.dtype
    keep = {torch.float16: model.keep_in_fp32(torch.float16)}
    if is_quantized:  # the reference then keeps its Q-Former in float32 beside bfloat16 too
        keep[torch.bfloat16] = [pattern for pattern in keep[torch.float16] if not _is_of_t5(pattern, model)]
    if wanted is None and is_weight_quantized(model):
        wanted = "default"
    if wanted is None:  # bitsandbytes computes in float16, and so does the reference then
        wanted = torch.float16 if is_quantized else torch.float32
    if isinstance(wanted, str) and wanted == "auto":
        default = model.config.torch_dtype
        return DtypePlan(default, keep_in_fp32=keep)
    if isinstance(wanted, str):
        device = _main_device(request.device_map) if wanted in POLICIES else torch.device("cpu")
        wanted = model.dtype_policy(wanted, device)
    if isinstance(wanted, Mapping):
        wanted = parse_mapping(wanted, list(model.state_dict()))
        return DtypePlan(torch.float32, wanted, keep_in_fp32=keep)
    if not isinstance(wanted, torch.dtype) or not wanted.is_floating_point:
        raise ValueError(f"dtype {wanted!r} is no floating-point type; give one such as torch.bfloat16, or its name.")
    return DtypePlan(wanted, keep_in_fp32=keep)


def _is_of_t5(pattern: str, model: nn.Module) -> bool:
    layers = (path for path, module in model.named_modules() if isinstance(module, Float32Linear))
    return any(re.search(pattern, f"{path}.weight") for path in layers)


def _main_device(device_map: Any) -> torch.device:
    """The device that most of the work is done on, as far as the argument says."""
    if isinstance(device_map, Mapping):
        places = [place for place in device_map.values() if place not in ("cpu", "disk")]
        device_map = places[0] if places else "cpu"
    if isinstance(device_map, int):
        return torch.device("cuda", device_map)
    if device_map is None:
        return torch.device("cpu")
    try:
        return torch.device(device_map)
    except RuntimeError:  # "auto" and its kin
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _warn_of_t5_in_float16(model: Any, found: Match, plan: DtypePlan) -> None:
    if model.config.get_text_config().model_type != "t5":
        return
    heads = [name for name in found.sources if name.endswith("shared.weight")]
    if any(plan.dtype_of(name, found.sources[name].dtype) == torch.float16 for name in heads):
        warnings.warn(
            "T5 was trained in bfloat16 and can overflow in float16. Load it with torch_dtype=torch.bfloat16.",
            stacklevel=4,
        )


#: Smaller models are quick in any dtype.
_SLOW_FROM = 10_000_000
_said: set[str] = set()


def _warn_of_float16_on_cpu(model: nn.Module) -> None:
    """Say once what to load instead: torch has no fast float16 products on a CPU (9 times slower than bfloat16)."""
    parameters = list(model.parameters())
    count = sum(each.numel() for each in parameters if each.dtype == torch.float16)
    if count < _SLOW_FROM or any(each.device.type != "cpu" for each in parameters):
        return
    better = "bf16" if default_dtype(torch.device("cpu")) == torch.bfloat16 else "fp32"
    message = f'float16 is several times slower than dtype="{better}" on this CPU: load with that, or use a GPU'
    if message not in _said:
        warnings.warn(message, stacklevel=4)
        _said.add(message)


def _quantization(request: Request) -> bnb.BitsAndBytesConfig | None:
    config = request.quantization
    if request.load_in_8bit or request.load_in_4bit:
        if config is not None:
            raise ValueError("Give load_in_8bit / load_in_4bit or quantization_config, not both.")
        config = bnb.BitsAndBytesConfig(load_in_8bit=request.load_in_8bit, load_in_4bit=request.load_in_4bit)
    if isinstance(config, Mapping):
        config = bnb.BitsAndBytesConfig.from_dict(config)
    if config is None or not config.is_quantizable():
        return None
    bnb.require_bitsandbytes()
    return config


def _check_one_quantization(request: Request, stored_as: WeightQuantization | None) -> None:
    other = request.quantization is not None or request.load_in_8bit or request.load_in_4bit
    if other and (request.weights is not None or stored_as is not None):
        raise ValueError("quantization= (or a checkpoint saved with it) and bitsandbytes exclude each other.")
    if stored_as is not None and request.weights not in (None, stored_as):
        raise ValueError(
            f"{request.name} is stored quantised as {stored_as.to_dict()}: leave quantization= out, or quantise the "
            "original."
        )


def _prepare_weights(model: Any, weights: WeightQuantization) -> None:
    text = model.config.get_text_config().model_type
    if not replace_linears(model, weights, text):
        raise ValueError(
            f"{type(model).__name__} with a {text} model has no linears that {weights.to_dict()} names. There are "
            "lists for the language models opt, llama and t5, the vision transformers and the Q-Former."
        )
    model.config.quantization_config = weights.to_dict()


def _as_stored(model: nn.Module, found: Match, plan: DtypePlan) -> DtypePlan:
    """Keep codes and scales as they lie in the file, and weights that are to be rounded unrounded until then."""
    paths = {path for path, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    kept = {
        name: source.dtype
        for name, source in found.sources.items()
        if name.rpartition(".")[0] in paths and not name.endswith(".bias")
    }
    return replace(plan, by_prefix={**plan.by_prefix, **kept}) if kept else plan


def _store(quantization: Any, weights: WeightQuantization | None) -> Any:
    if weights is not None:
        return store_quantized
    return None if quantization is None else bnb.store_quantized


def _prepare_quantized(model: Any, config: bnb.BitsAndBytesConfig, plan: DtypePlan) -> None:
    if config.llm_int8_skip_modules is not None:
        skip = [*config.llm_int8_skip_modules, *_fp32_modules(model, plan)]
    else:
        skip = [*_head_modules(model), *_fp32_modules(model, plan)]
    bnb.replace_linears(model, config, skip)
    model.config.quantization_config = config.to_dict()
    model.is_loaded_in_8bit, model.is_loaded_in_4bit = config.load_in_8bit, config.load_in_4bit


def _head_modules(model: Any) -> list[str]:
    """What is too sensitive for few bits: the output head and tied matrices, else the last module."""
    tied = model.tied_weights()
    names = {*tied.keys(), *tied.values()}
    head = model.get_output_embeddings()
    skip = [] if head is None else [path for path, module in model.named_modules() if module is head]
    if not names and not skip:
        names = {list(model.state_dict())[-1]}
    return skip + [name.rpartition(".")[0] for name in names]


def _fp32_modules(model: Any, plan: DtypePlan) -> list[str]:
    """Linear layers that stay float32 are not quantised either: the Q-Former, and `wo` of a T5 that stands alone.

    In a composite the reference quantises `wo`, and so it is here.
    """
    is_composite = model.config.get_text_config() is not model.config
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not (is_composite and isinstance(module, Float32Linear))
        and plan.keeps_fp32(f"{path}.weight")
    ]


def _device_map(model: Any, request: Request, plan: DtypePlan, quantization: Any) -> DeviceMap:
    wanted = request.device_map
    if wanted is None and quantization is not None and torch.cuda.is_available():
        wanted = torch.cuda.current_device()
    device_map = resolve_device_map(
        model, wanted, plan, max_memory=request.max_memory, no_split=model._no_split_modules
    )
    is_quantized = quantization is not None or is_weight_quantized(model)
    if is_quantized and "disk" in device_map.values():
        raise ValueError("Quantised layers cannot be offloaded to disk: give a device_map without 'disk'.")
    return device_map
