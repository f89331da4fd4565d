"""The tokenizer: text to ids and back, over the `tokenizers` library, with the calls of the documents."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken

from onlooker.hub import split_hub_options
from onlooker.outputs import BatchFeature
from onlooker.text.cleanup import clean_up
from onlooker.text.columns import as_array, as_ids, check_text
from onlooker.text.families import NEWER_GENERIC, family_of, fit_pipeline, with_defaults
from onlooker.text.limits import NO_LIMIT, Limits, read_limits
from onlooker.text.loading import read_tokenizer
from onlooker.text.saving import save_tokenizer
from onlooker.text.vocabulary import Vocabulary, renamed

_NO_LIMITS = Limits(None, None, None)


class Tokenizer(Vocabulary):
    """Turns text into token ids and token ids into text.

    Args:
        backend: the text pipeline; it is kept, not copied.
        tokenizer_class: class name as in tokenizer_config.json; it stands for usual special tokens and inputs.
        added_tokens: tokens beside the vocabulary, in the order of their ids.
        settings: what tokenizer_config.json may hold: `bos_token` and the other roles, `padding_side`,
            `truncation_side`, `model_max_length`, `clean_up_tokenization_spaces`, `chat_template` ...

    Raises:
        ValueError: a side that is neither left nor right.
    """

    is_fast = True

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        /,  # newer files have a setting of that name
        tokenizer_class: str | None = None,
        added_tokens: Sequence[AddedToken] = (),
        **settings: Any,
    ) -> None:
        self.family = family_of(tokenizer_class)
        settings = with_defaults(self.family, settings)
        if tokenizer_class == NEWER_GENERIC:
            tokenizer_class = None
            settings.setdefault("model_input_names", ["input_ids", "attention_mask"])
        self.backend_tokenizer = backend
        self._lock = threading.Lock()
        for side, saved in (("truncation_side", backend.truncation), ("padding_side", backend.padding)):
            if saved is not None:  # a pipeline may have been saved with them switched on
                settings.setdefault(side, saved["direction"])
        if backend.padding is not None:
            settings.setdefault("pad_token", backend.padding["pad_token"])
        backend.no_truncation()
        backend.no_padding()
        super().__init__(settings)
        self.init_kwargs = settings
        self.tokenizer_class = tokenizer_class or "PreTrainedTokenizerFast"
        self.padding_side: str = settings.get("padding_side", self.family.padding_side)
        self.truncation_side: str = settings.get("truncation_side", "right")
        _check_side("padding_side", self.padding_side)
        _check_side("truncation_side", self.truncation_side)
        self.model_max_length: int = settings.get("model_max_length") or settings.get("max_len") or NO_LIMIT
        self.model_input_names: list[str] = list(settings.get("model_input_names") or self.family.input_names)
        self.clean_up_tokenization_spaces: bool = bool(settings.get("clean_up_tokenization_spaces", False))
        self.chat_template: str | dict[str, str] | None = _templates(settings.get("chat_template"))
        self.name_or_path: str = str(settings.pop("name_or_path", ""))
        self._register(added_tokens)
        fit_pipeline(backend, self.family, {**settings, **self.special_tokens_map}, backend.token_to_id)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], *, subfolder: str = "", **options: Any) -> Tokenizer:
        """Load the tokenizer of a folder or hub id; `options` are those of the hub and settings to override.

        Raises:
            ModelNotFoundError: no such model, or it has no tokenizer.
            CheckpointError: files that are damaged or do not belong together.
        """
        hub, overrides = split_hub_options(options)
        overrides.pop("use_fast", None)  # there is one kind only
        files = read_tokenizer(name_or_path, subfolder, hub, overrides)
        settings = files.settings | {"name_or_path": os.fspath(name_or_path)}
        name = settings.pop("tokenizer_class", None) or f"{files.family.name}TokenizerFast"
        return cls(files.backend, name, files.added_tokens, **settings)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json; give back their paths."""
        names = ["tokenizer_class", "model_max_length", "clean_up_tokenization_spaces", "chat_template"]
        names += ["padding_side", "truncation_side", "model_input_names"]
        settings = self.init_kwargs | {name: getattr(self, name) for name in names}
        with self._lock:
            self._configure(_NO_LIMITS)
            return save_tokenizer(self, self.family, settings, save_directory)

    # Text to ids.

    def __call__(
        self,
        text: str | Sequence[Any],
        text_pair: str | Sequence[Any] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchFeature:
        """Tokenize one text, or a list of them.

        Args:
            text: a string, or a list of strings; with `is_split_into_words`, a list of words or of lists of words.
            text_pair: second texts, one for each.
            padding: False, True / "longest", or "max_length".
            truncation: False, True / "longest_first", "only_first" or "only_second".
            max_length: tokens of a row, special tokens counted; the model's maximum when not given.
            stride: tokens that neighbouring rows share, with `return_overflowing_tokens`.
            padding_side: for this call only.
            return_tensors: "pt", "np", or None for lists.
            verbose: warn of lengths that have no effect, or of cuts that were not asked for.

        Returns:
            input_ids, and as asked or usual for the model token_type_ids and attention_mask: flat lists for one
            string without tensors, else one row for each text.

        Raises:
            ValueError: not text, no token to pad with, an unknown strategy, or rows of unequal length as tensors.
        """
        is_batch = check_text(text, text_pair, is_split_into_words)
        texts = list(text) if is_batch else [text]
        pairs: list[Any] | None = None
        if text_pair:
            pairs = list(text_pair) if is_batch else [text_pair]
        limits = read_limits(
            padding,
            truncation,
            max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            model_max_length=self.model_max_length,
            verbose=verbose,
        )
        with self._lock:
            self._configure(limits, stride, pad_to_multiple_of, padding_side)
            encodings = self.backend_tokenizer.encode_batch(
                texts if pairs is None else list(zip(texts, pairs)),
                is_pretokenized=is_split_into_words,
                add_special_tokens=add_special_tokens,
            )
        rows = [
            (index, row)
            for index, first in enumerate(encodings)
            for row in ([first, *first.overflowing] if return_overflowing_tokens else [first])
        ]
        columns: dict[str, list[Any]] = {"input_ids": [row.ids for _, row in rows]}
        if _is_wanted(return_token_type_ids, "token_type_ids", self.model_input_names):
            columns["token_type_ids"] = [row.type_ids for _, row in rows]
        if _is_wanted(return_attention_mask, "attention_mask", self.model_input_names):
            columns["attention_mask"] = [row.attention_mask for _, row in rows]
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [row.special_tokens_mask for _, row in rows]
        if return_offsets_mapping:
            columns["offset_mapping"] = [row.offsets for _, row in rows]
        if return_length:
            columns["length"] = [len(row) for _, row in rows]
        if return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = [index for index, _ in rows]
        if return_tensors is not None:
            return BatchFeature({name: as_array(name, values) for name, values in columns.items()}, return_tensors)
        if not is_batch and not return_overflowing_tokens:
            return BatchFeature({name: v[0] if isinstance(v[0], list) else v for name, v in columns.items()})
        return BatchFeature(columns)

    def encode(self, text: str | Sequence[str], text_pair: Any = None, **options: Any) -> Any:
        """The ids of one text; the options are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text, as the vocabulary spells them."""
        with self._lock:
            self._configure(_NO_LIMITS)
            return self.backend_tokenizer.encode(text, pair, add_special_tokens=add_special_tokens).tokens

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens are put around a text, or around a pair."""
        return self.backend_tokenizer.num_special_tokens_to_add(pair)

    def _configure(
        self,
        limits: Limits,
        stride: int = 0,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
    ) -> None:
        """Tell the backend how to cut and pad; it keeps that, so every call says it anew."""
        side = padding_side or self.padding_side
        _check_side("padding_side", side)
        _check_side("truncation_side", self.truncation_side)
        if limits.truncation is None:
            self.backend_tokenizer.no_truncation()
        else:
            self.backend_tokenizer.enable_truncation(
                limits.max_length or 0, stride=stride, strategy=limits.truncation, direction=self.truncation_side
            )
        if limits.padding is None:
            self.backend_tokenizer.no_padding()
            return
        if self.pad_token is None or self.pad_token_id is None:
            raise ValueError(
                "Padding was asked for, but the tokenizer has no pad_token. Set one: tokenizer.pad_token = "
                "tokenizer.eos_token, or tokenizer.add_special_tokens({'pad_token': '[PAD]'}) and resize the model."
            )
        self.backend_tokenizer.enable_padding(
            direction=side,
            pad_id=self.pad_token_id,
            pad_token=self.pad_token,
            length=limits.max_length if limits.padding == "max_length" else None,
            pad_to_multiple_of=pad_to_multiple_of,
        )

    def rename_token(self, old: str, new: str) -> None:
        """Give an added token another text; its id stays.

        Raises:
            ValueError: `old` is not an added token, or `new` is a token already.
        """
        if old not in self.added_tokens_encoder or self.backend_tokenizer.token_to_id(new) is not None:
            raise ValueError(f"{old!r} is not an added token, or {new!r} is one already")
        with self._lock:
            self._configure(_NO_LIMITS)
            self.backend_tokenizer = renamed(self.backend_tokenizer, old, new)
        self._additional = [new if str(token) == old else token for token in self._additional]
        extra = self.init_kwargs.get("extra_special_tokens")
        for role in [role for role, token in self._named.items() if token is not None and str(token) == old]:
            if isinstance(extra, dict) and role in extra:
                extra.pop(role)
                del self._named[role]
            else:
                self._named[role] = new

    # Ids to text.

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text of one row of ids (a list, array, tensor, or a single id).

        Raises:
            ValueError: something else than ids of 0 or more.
        """
        text = self.backend_tokenizer.decode(as_ids(token_ids), skip_special_tokens=skip_special_tokens)
        wanted = clean_up_tokenization_spaces
        return clean_up(text) if (self.clean_up_tokenization_spaces if wanted is None else wanted) else text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The text of every row of ids."""
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in sequences]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        twin = object.__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokenizer_class}, {len(self)} tokens, {self.special_tokens_map})"


def _is_wanted(asked: bool | None, name: str, usual: Sequence[str]) -> bool:
    return name in usual if asked is None else asked


def _check_side(name: str, side: str) -> None:
    if side not in ("left", "right"):
        raise ValueError(f"{name} is {side!r}; it may be 'left' or 'right'")


def _templates(template: Any) -> str | dict[str, str] | None:
    """One template, or several by name: files hold those as a list of records."""
    if isinstance(template, list):
        return {item["name"]: item["template"] for item in template}
    return template
