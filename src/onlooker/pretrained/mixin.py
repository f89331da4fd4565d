"""The mixin that loads and saves every model class: `from_pretrained` and `save_pretrained`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from onlooker.config import Config
from onlooker.generate.config import GenerationConfig
from onlooker.hub import find_file, split_hub_options
from onlooker.language.t5_layers import Float32Linear
from onlooker.nn.attend import check_implementation
from onlooker.pretrained.load import Request, load
from onlooker.pretrained.resolve import resolve_config
from onlooker.quant.bnb import is_quantized
from onlooker.quant.weights import WeightQuantization
from onlooker.weights.naming import RenameTable
from onlooker.weights.policy import default_dtype, main_dtype, parse_dtype, reference_dtypes
from onlooker.weights.reading import StoredTensor
from onlooker.weights.saving import parse_size, save_weights
from onlooker.weights.vocabulary import padded_size, resize_rows

if TYPE_CHECKING:
    from typing_extensions import Self

    _Module = nn.Module
else:
    _Module = object

GENERATION_CONFIG_FILE = "generation_config.json"


class PreTrainedModel(_Module):
    """Put in front of a module class: `class OPTForCausalLM(PreTrainedModel, OPTLanguageModel)`.

    What a class states about itself is in the attributes below; methods that the module class has as well
    (`tied_weights`, `tie_weights`, `get_input_embeddings` ...) are taken from there.
    """

    config: Any
    config_class: ClassVar[type[Config]]
    base_model_prefix: ClassVar[str] = ""
    main_input_name: ClassVar[str] = "pixel_values"
    _no_split_modules: ClassVar[tuple[str, ...]] = ()
    #: (regex, replacement) from other spellings in files to the names here
    rename: ClassVar[list[tuple[str, str]]] = []
    #: published names, where they differ from the names here: used in both directions
    disk_names: ClassVar[RenameTable | None] = None
    #: whether generation_config.json counts; the BLIP families start from their text configuration instead
    reads_generation_config: ClassVar[bool] = True
    #: prefixes under which this class is found in checkpoints that it is a part of
    part_prefixes: ClassVar[tuple[str, ...]] = ()

    # -- loading ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: Config | str | Path | None = None,
        torch_dtype: Any = None,
        dtype: Any = None,
        device_map: Any = None,
        max_memory: Mapping[Any, Any] | None = None,
        offload_folder: str | Path | None = None,
        quantization: str | Mapping[str, Any] | WeightQuantization | None = None,
        quantization_config: Any = None,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        attn_implementation: str | None = None,
        use_safetensors: bool | None = None,
        low_cpu_mem_usage: bool | None = None,
        allow_missing: bool = False,
        strict: bool = False,
        progress: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model of this class from a folder or a hub id, in eval mode.

        Args:
            config: used instead of the checkpoint's.
            torch_dtype: a dtype or its name; "auto" (config.json's, else as stored); a policy: "reference" (each part
                as it was trained), "default" (what suits the device); or module prefix -> dtype. None is float32.
            dtype: the newer name of the same.
            device_map: None (CPU), a device, "auto", or module prefix -> device, "cpu" or "disk".
            max_memory: device -> bytes, for device_map="auto".
            offload_folder: where a .bin checkpoint's tensors go that are offloaded to disk.
            quantization: "int8" or "int4" for the layers of the language model, or part ("language", "vision",
                "qformer") -> kind; for CPUs, see docs/quantization.md. A checkpoint that was saved so needs none.
            quantization_config: a BitsAndBytesConfig; load_in_8bit and load_in_4bit are short for its defaults.
            attn_implementation: "eager", "sdpa" (default) or "flash_attention_2".
            use_safetensors: True refuses .bin files, False reads nothing else.
            low_cpu_mem_usage: accepted and without effect: loading is always so.
            allow_missing: initialise tensors that the checkpoint lacks, with a warning, instead of an error.
            strict: an error instead of a warning when the checkpoint holds tensors that no class here uses.
            progress: called with (bytes done, bytes in total).
            **kwargs: hub options (revision, cache_dir, local_files_only, token, force_download), and fields of the
                config to change.

        Raises:
            ModelNotFoundError: no such model, or it has no weights.
            CheckpointError: the checkpoint is of another kind, damaged, or does not have every tensor.
            MissingExtraError: a package that was asked for (bitsandbytes) is not installed.
            ImportError: flash_attention_2 without its package or a GPU.
            TypeError: a keyword that is neither an option nor a field of the config.
            ValueError: dtypes or devices that do not exist.
        """
        hub, overrides = split_hub_options(kwargs)
        name = pretrained_model_name_or_path
        request = Request(
            name=name,
            dtype=_one_dtype(torch_dtype, dtype),
            device_map=device_map,
            max_memory=max_memory,
            offload_folder=offload_folder,
            quantization=quantization_config,
            load_in_8bit=load_in_8bit,
            load_in_4bit=load_in_4bit,
            weights=WeightQuantization.of(quantization),
            attn_implementation=attn_implementation,
            use_safetensors=use_safetensors,
            allow_missing=allow_missing,
            strict=strict,
            progress=progress,
            hub=hub,
        )
        if attn_implementation is not None:
            check_implementation(attn_implementation)
        model = load(cls, resolve_config(cls, name, config, overrides, hub), request)
        model._load_generation_config(name, hub)
        return model.eval()

    def _load_generation_config(self, name: str | Path, hub: Mapping[str, Any]) -> None:
        """Take the settings of generation_config.json over, unless they were only derived from the config."""
        if not self.reads_generation_config or not hasattr(self, "generation_config"):
            return
        file = find_file(name, GENERATION_CONFIG_FILE, **hub)
        if file is None or json.loads(file.read_text(encoding="utf-8")).get("_from_model_config"):
            return
        self.generation_config = GenerationConfig.from_pretrained(file.parent)

    # -- saving ----------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        state_dict: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Write config.json, the weights, and generation_config.json for models that generate.

        Args:
            max_shard_size: bytes, or a text such as "5GB"; above it the weights are written in several files.
            safe_serialization: safetensors; False writes .bin.
            state_dict: written instead of the model's own tensors.

        Raises:
            ValueError: the model is quantised by bitsandbytes, or max_shard_size is no size.
        """
        if is_quantized(self):
            raise ValueError("bitsandbytes models cannot be saved: save the original, or use quantization='int4'.")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        config = type(self.config).from_dict(self.config.to_dict())
        config.architectures = [type(self).__name__]
        config.torch_dtype = main_dtype(self)
        config.save_pretrained(folder)
        generation_config = getattr(self, "generation_config", None)
        if generation_config is not None:
            generation_config.save_pretrained(folder)
        save_weights(
            self,
            folder,
            tied=self.tied_weights(),
            disk_names=self.disk_names,
            state_dict=state_dict,
            max_shard_bytes=parse_size(max_shard_size),
            safe_serialization=safe_serialization,
        )

    # -- what the loader asks --------------------------------------------------------------------------------------

    @classmethod
    def published_names(cls, stored: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
        """The tensors of a checkpoint in another code base's layout by their published names; else the same object."""
        return stored

    def fit_vocabulary(self) -> None:
        """Add the token rows that a checkpoint of another layout lacks."""

    def tied_weights(self) -> dict[str, str]:
        """Name of each duplicate -> name of the parameter that it shares."""
        inner = getattr(super(), "tied_weights", None)
        if inner is not None:
            return inner()
        return {
            f"{part}.{duplicate}": f"{part}.{kept}"
            for part, module in self.named_children()
            if hasattr(module, "tied_weights")
            for duplicate, kept in module.tied_weights().items()  # type: ignore[operator]
        }

    def tie_weights(self) -> None:
        """Make duplicates share their parameter again."""
        inner = getattr(super(), "tie_weights", None)
        if inner is not None:
            inner()
            return
        for module in self.children():
            if hasattr(module, "tie_weights"):
                module.tie_weights()  # type: ignore[operator]

    def keep_in_fp32(self, dtype: torch.dtype) -> tuple[str, ...]:
        """Regexes of parameter names that stay float32 when the model is loaded in `dtype`."""
        inner = getattr(super(), "keep_in_fp32", None)
        found = () if inner is None else inner(dtype)
        if dtype != torch.float16:
            return found
        layers = (path for path, module in self.named_modules() if isinstance(module, Float32Linear))
        return (*found, *(rf"^{re.escape(path)}\." for path in layers))

    def dtype_policy(self, name: str, device: torch.device) -> torch.dtype | dict[str, torch.dtype]:
        """What a named policy means for this model: one dtype, or module prefix -> dtype.

        Raises:
            ValueError: no such policy or dtype.
        """
        text_type = self.config.get_text_config().model_type
        if name == "default":
            return default_dtype(device, is_t5=text_type == "t5")
        if name == "reference":
            return reference_dtypes(text_type)
        return parse_dtype(name)

    # -- the model as a whole --------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the first parameter is that is not offloaded."""
        places = (parameter.device for parameter in self.parameters())
        return next((place for place in places if place.type != "meta"), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the first floating-point parameter."""
        dtypes = (parameter.dtype for parameter in self.parameters())
        return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)

    def num_parameters(self, only_trainable: bool = False) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    @classmethod
    def can_generate(cls) -> bool:
        return hasattr(cls, "generate")

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Choose the attention back-end of every layer: "eager", "sdpa" or "flash_attention_2".

        Raises:
            ValueError: no such back-end.
            ImportError: its package or a GPU is missing.
        """
        check_implementation(attn_implementation)
        for module in self.modules():
            if hasattr(module, "attn_implementation"):
                module.attn_implementation = attn_implementation  # type: ignore[assignment]

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self._set_gradient_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        self._set_gradient_checkpointing(False)

    def _set_gradient_checkpointing(self, value: bool) -> None:
        for module in self.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = value  # type: ignore[assignment]

    # -- vocabulary ------------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        return self._vocabulary("get_input_embeddings")()

    def set_input_embeddings(self, module: nn.Module) -> None:
        self._vocabulary("set_input_embeddings")(module)

    def get_output_embeddings(self) -> Any:
        """The output head; None for a model without one."""
        inner = self._inner("get_output_embeddings")
        return None if inner is None else inner()

    def vocabulary_config(self) -> Config:
        """The configuration that holds the size of the token embedding."""
        return self.config.get_text_config()

    def set_output_embeddings(self, module: nn.Module) -> None:
        self._vocabulary("set_output_embeddings")(module)

    def _inner(self, method: str) -> Any:
        return getattr(super(), method, None) or getattr(getattr(self, "language_model", None), method, None)

    def _vocabulary(self, method: str) -> Any:
        inner = self._inner(method)
        if inner is None:
            raise NotImplementedError(f"{type(self).__name__} has no {method[4:].replace('_', ' ')}")
        return inner

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> nn.Module:
        """Give the vocabulary another size, in the token embedding, the output head and the config.

        New rows are the mean of the old ones; tied matrices stay tied.

        Args:
            new_num_tokens: None keeps the size, but for the rounding.
            pad_to_multiple_of: round the size up.

        Returns:
            The token embedding.
        """
        embedding: Any = self.get_input_embeddings()
        if new_num_tokens is None and pad_to_multiple_of is None:
            return embedding
        size = padded_size(len(embedding.weight) if new_num_tokens is None else new_num_tokens, pad_to_multiple_of)
        head: Any = self.get_output_embeddings()
        resize_rows(embedding, size)
        if head is not None and len(head.weight) != size:
            resize_rows(head, size)
        self.tie_weights()
        if isinstance(head, nn.Linear):
            head.out_features = size
        self.vocabulary_config().vocab_size = size
        return embedding


def _one_dtype(torch_dtype: Any, dtype: Any) -> Any:
    if torch_dtype is not None and dtype is not None and torch_dtype != dtype:
        raise ValueError(f"torch_dtype={torch_dtype} and dtype={dtype} are two names of one option: give one of them.")
    return dtype if torch_dtype is None else torch_dtype
