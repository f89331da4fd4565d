"""What the processors of all families share: parts, options for each part, files, and placeholders."""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from onlooker.hub import find_file, split_hub_options
from onlooker.models.chatting import Chatting
from onlooker.outputs import BatchFeature
from onlooker.pixels import ImageProcessor
from onlooker.text.columns import as_array
from onlooker.text.loading import read_chat_template, read_json

if TYPE_CHECKING:
    from typing_extensions import Self

PROCESSOR_FILE = "processor_config.json"
# What stands in each column of a tokenizer call at a placeholder.
_AT_PLACEHOLDER = {"attention_mask": 1, "token_type_ids": 0, "special_tokens_mask": 0, "offset_mapping": (0, 0)}


class Processor(Chatting):
    """Parts that read pixels and text, called as one; a family declares its parts and writes `__call__`."""

    part_classes: ClassVar[Mapping[str, type]]  # attribute -> class of the part, the pixels first
    subfolders: ClassVar[Mapping[str, str]] = {}  # attribute -> folder of its own inside the model's
    settings: ClassVar[tuple[str, ...]] = ()  # attributes that processor_config.json holds

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Self:
        """Load all parts from a folder or hub id; `options` are those of the hub and settings to override.

        Raises:
            ModelNotFoundError: no such model, or a part of it is missing.
            CheckpointError: a file that is damaged.
        """
        hub, overrides = split_hub_options(options)
        saved = read_json(find_file(name_or_path, PROCESSOR_FILE, **hub))
        chosen = {name: overrides.pop(name, saved.get(name)) for name in cls.settings}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        template = overrides.pop("chat_template", None) or read_chat_template(name_or_path, "", hub)
        pixels = {
            name: {key: overrides[key] for key in part.option_names() if key in overrides}
            for name, part in cls.part_classes.items()
            if issubclass(part, ImageProcessor)
        }
        for key in {key for mine in pixels.values() for key in mine}:  # a tokenizer takes any setting, so only the rest
            overrides.pop(key)
        parts = {}
        for name, part_class in cls.part_classes.items():
            mine = hub | pixels.get(name, overrides if name == "tokenizer" else {})
            mine |= {"subfolder": cls.subfolders[name]} if name in cls.subfolders else {}
            parts[name] = part_class.from_pretrained(name_or_path, **mine)  # type: ignore[attr-defined]
        cls._fit(parts, name_or_path, hub)
        processor = cls(**parts, **chosen)
        processor.chat_template = template or saved.get("chat_template")
        return processor

    @classmethod
    def _fit(cls, parts: dict[str, Any], name_or_path: str | os.PathLike[str], hub: Mapping[str, Any]) -> None:
        """Bring loaded parts together, where a family's files were written for another class."""

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write the files of all parts and processor_config.json; give back their paths."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        written: list[str] = []
        for name in self.part_classes:
            written += getattr(self, name).save_pretrained(folder / self.subfolders.get(name, ""))
        settings = self.to_dict()
        if isinstance(self.chat_template, str):
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")
            written.append(str(folder / "chat_template.jinja"))
        elif self.chat_template:
            settings["chat_template"] = self.chat_template
        path = folder / PROCESSOR_FILE
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return list(dict.fromkeys([*written, str(path)]))

    def to_dict(self) -> dict[str, Any]:
        """The settings of the processor itself, without those of its parts."""
        return {name: getattr(self, name) for name in self.settings} | {"processor_class": type(self).__name__}

    @property
    def model_input_names(self) -> list[str]:
        """Every name that a call may give back, those of the pixels first."""
        return list(dict.fromkeys(name for part in self.part_classes for name in getattr(self, part).model_input_names))

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """`Tokenizer.decode`."""
        return self.tokenizer.decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """`Tokenizer.batch_decode`."""
        return self.tokenizer.batch_decode(*args, **kwargs)

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The texts of generated ids, without special tokens."""
        return self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.part_classes)
        return f"{type(self).__name__}({parts}, {self.to_dict()})"


def split_options(
    options: Mapping[str, Any], parts: Mapping[str, Iterable[str]]
) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Give each part its options: those given flat go where they are known, `text_kwargs=` and the like as they say.

    Args:
        parts: "text_kwargs", "images_kwargs" ... -> the names that part knows.

    Returns:
        Part -> options, and `return_tensors`, which is for all of them.

    Raises:
        TypeError: an option that no part knows.
        ValueError: an option given twice with different values.
    """
    known = {part: {*names, "return_tensors"} for part, names in parts.items()}
    chosen: dict[str, dict[str, Any]] = {part: {} for part in parts}
    nested = {part: dict(options.get(part) or {}) for part in [*parts, "common_kwargs"]}
    flat = {name: value for name, value in options.items() if name not in nested}
    for name, value in [*nested.pop("common_kwargs").items(), *flat.items()]:
        takers = [part for part in parts if name in known[part]]
        if not takers:
            raise TypeError(_unknown(name, sorted(set().union(*known.values()))))
        for part in takers:
            chosen[part][name] = value
    for part, given in nested.items():
        for name, value in given.items():
            if name not in known[part]:
                raise TypeError(f"{part}: {_unknown(name, sorted(known[part]))}")
            if name in flat and not _same(flat[name], value):
                raise ValueError(f"{name} was given twice, as {flat[name]!r} and in {part} as {value!r}; give one")
            chosen[part][name] = value
    kinds = {kind for mine in chosen.values() if (kind := mine.pop("return_tensors", None)) is not None}
    if len(kinds) > 1:
        raise ValueError(f"return_tensors is {' and '.join(sorted(map(str, kinds)))}; all parts take the same")
    return chosen, next(iter(kinds), None)


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
    return f"unknown option {name!r}; {hint}"


def _same(first: Any, second: Any) -> bool:
    return first is second or (type(first) is type(second) and bool(first == second))


def options_of(call: Any) -> list[str]:
    """The names of the options of a tokenizer's or an image processor's call: all but the data itself."""
    data = {"self", "images", "videos", "text", "text_pair"}
    kinds = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        name for name, item in inspect.signature(call).parameters.items() if item.kind in kinds and name not in data
    ]


def as_texts(text: Any) -> list[str]:
    """One prompt or several as a list.

    Raises:
        ValueError: something else than a string or a list of strings, or no text at all.
    """
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, (list, tuple)) or not all(isinstance(item, str) for item in texts):
        raise ValueError(f"Invalid input text: {_short(text)}. Please provide a string, or a list of strings.")
    if not texts:
        raise ValueError("The list of texts is empty. Leave text out to give pictures only.")
    return list(texts)


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:60] + '...'}"


def room_for_text(max_length: int | None, placeholders: int) -> int | None:
    """What `max_length` leaves for the text behind the placeholders.

    Raises:
        ValueError: nothing.
    """
    if max_length is None or max_length > placeholders:
        return None if max_length is None else max_length - placeholders
    raise ValueError(
        f"max_length is {max_length}, but {placeholders} placeholders come before the text. "
        f"Give {placeholders + 1} or more; max_length counts both."
    )


def put_in_front(columns: Mapping[str, Any], token_id: int, counts: Sequence[int]) -> dict[str, Any]:
    """Columns of a tokenizer call with `counts[row]` placeholders before each row, whatever stands first in it."""
    longer: dict[str, Any] = {}
    for name, rows in columns.items():
        if name == "length":
            longer[name] = [length + count for length, count in zip(rows, counts)]
        else:
            value = token_id if name == "input_ids" else _AT_PLACEHOLDER[name]
            longer[name] = [[value] * count + list(row) for count, row in zip(counts, rows)]
    return longer


def as_batch(columns: Mapping[str, Any], return_tensors: str | None) -> BatchFeature:
    """Text columns as lists, or as tensors of one size.

    Raises:
        ValueError: rows of unequal length as tensors.
    """
    if return_tensors is None:
        return BatchFeature(dict(columns))
    return BatchFeature({name: as_array(name, rows) for name, rows in columns.items()}, return_tensors)
