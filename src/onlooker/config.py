"""The base of every configuration: declared fields with defaults, unknown keys kept, JSON in and out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

CONFIG_FILE = "config.json"


class Config:
    """A bag of declared fields that also keeps the keys it does not know.

    A subclass declares its fields as annotated class attributes. They may be given by position (in the order of
    declaration, the subclass' own first) or by keyword; other keywords become attributes and are written back on
    saving, so that a file comes out as it went in. `__post_init__` checks and derives.
    """

    model_type: ClassVar[str] = ""
    #: other names of a field, for reading, writing and construction: alias -> field
    attribute_map: ClassVar[dict[str, str]] = {}
    #: key under which a composite configuration holds this one
    config_section: ClassVar[str] = ""
    _field_names: ClassVar[tuple[str, ...]] = ()

    architectures: list[str] | None = None
    return_dict: bool = True
    output_hidden_states: bool = False
    output_attentions: bool = False
    tie_word_embeddings: bool = True
    is_encoder_decoder: bool = False
    chunk_size_feed_forward: int = 0
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._field_names = _declared_fields(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(self._field_names):
            raise TypeError(f"{type(self).__name__} takes at most {len(self._field_names)} values, {len(args)} given")
        for name, value in zip(self._field_names, args):
            if name in kwargs:
                raise TypeError(f"{type(self).__name__} got two values for {name}")
            kwargs[name] = value
        kwargs.pop("model_type", None)
        for name in self._field_names:
            default = getattr(type(self), name)
            setattr(self, name, kwargs.pop(name) if name in kwargs else copy.copy(default))
        for name, value in kwargs.items():
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Checks and derived values of a subclass."""

    # -- attributes ------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        field = type(self).attribute_map.get(name)
        if field is None or field == name:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self, field)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).attribute_map.get(name, name), value)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The type that the weights are stored in, or None when the file does not say."""
        name = self.__dict__.get("_torch_dtype")
        if name is None:
            return None
        import torch

        return getattr(torch, name)

    @torch_dtype.setter
    def torch_dtype(self, value: torch.dtype | str | None) -> None:
        self.__dict__["_torch_dtype"] = None if value is None else str(value).removeprefix("torch.")

    @property
    def dtype(self) -> torch.dtype | None:
        return self.torch_dtype

    @dtype.setter
    def dtype(self, value: torch.dtype | str | None) -> None:
        self.torch_dtype = value

    @property
    def use_return_dict(self) -> bool:
        return self.return_dict

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Config:
        """The configuration of the language model: a composite's text_config, else this one.

        Args:
            decoder, encoder: accepted, because other libraries ask with them, and without effect.
        """
        text = self.__dict__.get("text_config")
        return text if isinstance(text, Config) else self

    # -- dictionaries and files ------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Every field and every kept key as plain JSON values."""
        values: dict[str, Any] = {"model_type": self.model_type}
        for name, value in self.__dict__.items():
            if name == "_torch_dtype":
                values["torch_dtype"] = value
            elif not name.startswith("_") or name in self._field_names:
                values[name] = _plain(value)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> Self:
        return cls(**{**copy.deepcopy(values), **overrides})

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **overrides: Any) -> Self:
        """Read config.json of a folder or a hub name; the section of this class when the file is a composite's.

        Raises:
            ModelNotFoundError: there is no such folder or checkpoint, or it has no config.json.
        """
        from onlooker.hub import split_hub_options

        hub_options, overrides = split_hub_options(overrides)
        values = read_config(pretrained_model_name_or_path, **hub_options)
        section = values.get(cls.config_section)
        if isinstance(section, dict) and values.get("model_type") != cls.model_type:
            values = section
        return cls.from_dict(values, **overrides)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and type(self) is type(other) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


def read_config(name_or_path: str | Path, **hub_options: Any) -> dict[str, Any]:
    """config.json of a folder or a hub name, as a dictionary.

    Raises:
        ModelNotFoundError: there is no such folder or checkpoint, or it has no config.json.
    """
    from onlooker.errors import ModelNotFoundError
    from onlooker.hub import find_file

    path = find_file(name_or_path, CONFIG_FILE, **hub_options)
    if path is None:
        raise ModelNotFoundError(f"{name_or_path} has no {CONFIG_FILE}: is it a model folder?")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _declared_fields(cls: type[Config]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for base in cls.__mro__:
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            if not str(annotation).startswith("ClassVar"):
                names.setdefault(name)
    return tuple(names)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if type(value).__module__ == "torch":  # a dtype kept under an unknown key
        return str(value).removeprefix("torch.")
    return value
