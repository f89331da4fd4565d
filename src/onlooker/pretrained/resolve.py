"""Finds the configuration that a class is built with, and refuses a checkpoint of another kind."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onlooker.config import Config, read_config
from onlooker.errors import CheckpointError
from onlooker.quant.weights import METHOD as WEIGHTS_METHOD


def resolve_config(
    cls: Any, name: str | Path, config: Config | str | Path | None, overrides: Mapping[str, Any], hub: Mapping[str, Any]
) -> Config:
    """The configuration for `cls`: the one given, else the checkpoint's, its section when `cls` is a part of it.

    Args:
        cls: a model class with `config_class`.
        config: a configuration (of the class or of a composite that has it), or where to read it.
        overrides: fields to change.

    Raises:
        CheckpointError: the checkpoint is of another kind.
        TypeError: an override that is no field, or a configuration of another class.
    """
    config_class: type[Config] = cls.config_class
    if isinstance(config, Config):
        _check_fields(cls, overrides, {})
        own = copy.deepcopy(_section(cls, config))
        for field, value in overrides.items():
            setattr(own, field, value)
        return own
    source = name if config is None else config
    values = read_config(source, **hub)
    _check_kind(cls, values, source)
    quantized = values.get("quantization_config")
    if quantized is not None and quantized.get("quant_method") != WEIGHTS_METHOD:
        raise CheckpointError(
            f"{source} was saved quantised, which is not read here. Load the original checkpoint and pass "
            "quantization_config= to quantise it while loading."
        )
    _check_fields(cls, overrides, values)
    own = config_class.from_pretrained(source, **hub, **overrides)
    if quantized is not None:  # a part of the checkpoint is stored like the whole
        own.quantization_config = quantized
    return own


def _section(cls: Any, config: Config) -> Config:
    if isinstance(config, cls.config_class):
        return config
    section = getattr(config, cls.config_class.config_section or " ", None)
    if isinstance(section, Config) and isinstance(section, cls.config_class):
        return section
    raise TypeError(f"{cls.__name__} needs a {cls.config_class.__name__}, not a {type(config).__name__}")


def _check_kind(cls: Any, values: Mapping[str, Any], source: Any) -> None:
    wanted = {cls.config_class.model_type, *getattr(cls.config_class, "compatible_model_types", ())}
    given = values.get("model_type")
    section = values.get(cls.config_class.config_section)
    if isinstance(section, Mapping) and given not in wanted:
        given = section.get("model_type")
    if given is None or given in wanted:
        return
    made_for = f" ({', '.join(values['architectures'])})" if values.get("architectures") else ""
    raise CheckpointError(
        f"{source} holds model_type {given!r}{made_for}, but {cls.__name__} loads "
        f"{', '.join(repr(kind) for kind in sorted(wanted))}. Load it with AutoModel or with the class it was made for."
    )


def _check_fields(cls: Any, overrides: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    config_class = cls.config_class
    known = {*config_class._field_names, *config_class.attribute_map, *values}
    unknown = [field for field in overrides if field not in known]
    if unknown:
        raise TypeError(
            f"{cls.__name__}.from_pretrained got {', '.join(map(repr, unknown))}: neither an option of loading nor a "
            f"field of {config_class.__name__}. Fields are set on model.config afterwards if they are your own."
        )
