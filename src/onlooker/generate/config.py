"""What a caller may ask of generation, with the documented names and defaults."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from onlooker.errors import ModelNotFoundError
from onlooker.generate.options import DEFAULTS, GenerationOptions, as_ids
from onlooker.generate.validate import check_values

FILE_NAME = "generation_config.json"
# Given to generate() itself: an object of this class could not be saved with them.
_CALL_ARGUMENTS = ("logits_processor", "stopping_criteria", "streamer", "prefix_allowed_tokens_fn", "assistant_model")


class GenerationConfig(GenerationOptions):
    """Options of `generate`; what is not given reads as the default, what is not known is kept and written back.

    `max_length` and `min_length` count the prompt, `max_new_tokens` and `min_new_tokens` do not and win.  A
    `max_length` of 20 that does not come with the call itself means "not set": up to 20 new tokens.

    Raises:
        ValueError: a value out of range, or options that exclude each other.
    """

    def __init__(self, **options: Any) -> None:
        self._assign(options)
        self.validate()

    def _assign(self, options: Mapping[str, Any]) -> None:
        for name in _CALL_ARGUMENTS:
            if name in options:
                raise ValueError(f"{name} is no part of a GenerationConfig; give it to generate() itself")
        for name, value in options.items():
            if not name.startswith("_"):
                setattr(self, name, value)

    # -- changing ------------------------------------------------------------------------------------------------

    def with_options(self, **options: Any) -> GenerationConfig:
        """A copy with the options of one call; unlike a file, a call may only name options that exist.

        Raises:
            ValueError: an unknown name (with the nearest known one), or a value out of range.
        """
        unknown = [name for name in options if name not in DEFAULTS]
        if unknown:
            raise ValueError("; ".join(map(_unknown, unknown)))
        config = copy.deepcopy(self)
        config._assign(options)
        if options.get("max_length") is not None:
            config._max_length_given = True
        config.validate()
        return config

    def update(self, **options: Any) -> dict[str, Any]:
        """Set the options that exist here and return the others."""
        known = {name: value for name, value in options.items() if name in DEFAULTS or hasattr(self, name)}
        self._assign(known)
        self.validate()
        return {name: value for name, value in options.items() if name not in known}

    def validate(self) -> None:
        """Raises:
        ValueError: a value out of range, or options that exclude each other.
        """
        check_values(self)

    # -- reading -------------------------------------------------------------------------------------------------

    _max_length_given: bool = False

    def new_tokens(self, prompt_length: int) -> tuple[int, int]:
        """How many tokens to write at most and at least, after `prompt_length` positions.

        Raises:
            ValueError: max_length leaves no room after the prompt.
        """
        if self.max_new_tokens is not None:
            most = self.max_new_tokens
        elif self.max_length is None or (self.max_length == DEFAULTS["max_length"] and not self._max_length_given):
            most = DEFAULTS["max_length"]
        else:
            most = self.max_length - prompt_length
        if most < 1:
            raise ValueError(
                f"max_length {self.max_length} leaves no room for new tokens: the prompt has {prompt_length} positions "
                f"already. Give max_new_tokens, or a max_length above {prompt_length}."
            )
        least = self.min_new_tokens
        if least is None:
            least = (self.min_length or 0) - prompt_length
        return most, max(least, 0)

    @property
    def eos_ids(self) -> list[int]:
        """Every id that ends a row; empty when none does (negative ids switch ending off)."""
        return [token for token in as_ids(self.eos_token_id) if token >= 0]

    @property
    def fill_id(self) -> int | None:
        """What finished rows are filled with: pad_token_id (0 is one), else the first eos."""
        if self.pad_token_id is not None:
            return int(self.pad_token_id)
        return next(iter(self.eos_ids), None)

    @property
    def is_contrastive(self) -> bool:
        return bool(self.penalty_alpha) and self.top_k is not None and self.top_k > 1

    # -- files ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Every known option, then the unknown ones that were given."""
        values = {name: getattr(self, name) for name in DEFAULTS}
        values.update((name, value) for name, value in vars(self).items() if not name.startswith("_"))
        return copy.deepcopy(values)

    def to_diff_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        values = self.to_dict()
        return {name: values[name] for name in values if name not in DEFAULTS or values[name] != DEFAULTS[name]}

    def to_json_string(self, use_diff: bool = True) -> str:
        values = self.to_diff_dict() if use_diff else self.to_dict()
        if isinstance(values.get("sequence_bias"), Mapping):  # JSON has no tuples for keys
            values["sequence_bias"] = [[list(ids), bias] for ids, bias in values["sequence_bias"].items()]
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> GenerationConfig:
        """Build from the contents of a file; a published file with a bad value loads, and generate() then refuses."""
        config = cls()
        config._assign({**values, **overrides})
        return config

    @classmethod
    def from_model_config(cls, model_config: Any) -> GenerationConfig:
        """The generation options found in a (text) config: what older files have instead of a file of their own.

        Flags that ask forward for attentions or hidden states stay with forward.
        """
        values = model_config if isinstance(model_config, Mapping) else model_config.to_dict()
        found = {name: values[name] for name in DEFAULTS if values.get(name) is not None}
        for name in ("output_attentions", "output_hidden_states"):
            found.pop(name, None)
        return cls.from_dict({name: value for name, value in found.items() if value != DEFAULTS[name]})

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | PathLike[str], config_file_name: str = FILE_NAME, **overrides: Any
    ) -> GenerationConfig:
        """Read generation_config.json of a folder or a hub name.

        Args:
            overrides: options that replace those of the file, and the hub options (`revision`, `token` ...).

        Raises:
            ModelNotFoundError: no such model, or a model without that file.
        """
        from onlooker.hub import find_file, split_hub_options

        hub, overrides = split_hub_options(overrides)
        path = find_file(name_or_path, config_file_name, **hub)
        if path is None:
            raise ModelNotFoundError(f"{name_or_path} has no {config_file_name}; its options may be in config.json")
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")), **overrides)

    def save_pretrained(self, save_directory: str | PathLike[str], config_file_name: str = FILE_NAME) -> None:
        """Write what differs from the defaults.

        Raises:
            ValueError: a value out of range; such a file would only fail later.
        """
        self.validate()
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / config_file_name).write_text(self.to_json_string(), encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # options may change

    def __repr__(self) -> str:
        return f"GenerationConfig {self.to_json_string()}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, DEFAULTS, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known options: {', '.join(sorted(DEFAULTS))}"
    return f"generate() has no option {name!r}; {advice}"
