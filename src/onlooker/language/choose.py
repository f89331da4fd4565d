"""model_type of a text configuration -> its class."""

from __future__ import annotations

from typing import Any

from onlooker.config import Config
from onlooker.language.config import OPTConfig, T5Config

TEXT_CONFIGS: dict[str, type[Config]] = {"opt": OPTConfig, "t5": T5Config}


def text_config(values: Config | dict[str, Any] | None, default: str = "opt") -> Config:
    """The configuration of the language model: ours where we write it, else the other library's.

    Args:
        values: a dictionary, a configuration of ours or of transformers, or None for the default's defaults.
        default: model_type of a dictionary that has none.

    Raises:
        ValueError: a model_type that we do not write, without transformers installed.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()  # type: ignore[union-attr]
    values = dict(values or {})  # type: ignore[arg-type]
    model_type = values.setdefault("model_type", default)
    if model_type in TEXT_CONFIGS:
        return TEXT_CONFIGS[model_type](**values)
    from onlooker.language.foreign import check_installed, foreign_config

    check_installed(model_type, list(TEXT_CONFIGS))
    return foreign_config(values)
