"""What comes back: records of a forward pass, and batches of a processor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform

    from onlooker.config import Config
else:

    def dataclass_transform(**options: Any) -> Callable[[type], type]:
        """Python 3.10 does not have it yet, and only a type checker asks."""
        return lambda cls: cls


#: The default of a field that is always filled. (It needs one, because fields before it may be left out.)
FILLED: Any = None


@dataclass_transform(eq_default=False)
class ModelOutput(OrderedDict[str, Any]):
    """An ordered record: `out.logits`, `out["logits"]` and `out[0]`; fields that are None are not there.

    Subclasses only declare fields; each becomes a dataclass. A record is a mapping, so that data-parallel wrappers
    and `**out` see the tensors in it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        first = getattr(self, names[0])
        if isinstance(first, dict) and not isinstance(first, ModelOutput) and set(first) <= set(names):
            # Mappings are rebuilt by wrappers as type(record)({...}).
            setattr(self, names[0], None)
            for name, value in first.items():
                setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if value is not None:
            OrderedDict.__setitem__(self, name, value)
        elif name in self:
            OrderedDict.__delitem__(self, name)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        return OrderedDict.__getitem__(self, key) if isinstance(key, str) else self._values()[key]

    def _values(self) -> tuple[Any, ...]:
        return tuple(OrderedDict.__getitem__(self, field.name) for field in fields(self) if field.name in self)  # type: ignore[arg-type]

    def keys(self) -> Any:
        return [field.name for field in fields(self) if field.name in self]  # type: ignore[arg-type]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are there, in order; records inside become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self._values())

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.items()))


def _rebuild(cls: type[ModelOutput], values: dict[str, Any]) -> ModelOutput:
    return cls(**values)


class UnpackingOutput(ModelOutput):
    """A record that iterates over its values, as the tuple that older code unpacks."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())


class BatchFeature(dict[str, Any]):
    """What a processor returns: a dictionary with attribute access and `.to`."""

    def __init__(self, data: dict[str, Any] | None = None, tensor_type: str | None = None) -> None:
        super().__init__(data or {})
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this batch holds {', '.join(self) or 'nothing'}, not {name!r}") from None

    @property
    def data(self) -> dict[str, Any]:
        return self

    def convert_to_tensors(self, tensor_type: str | None = None) -> Self:
        """Every entry as one tensor ("pt") or one array ("np").

        Raises:
            ValueError: another type, or rows of unequal length.
        """
        if tensor_type is not None:
            convert = _converter(tensor_type)
            for key, value in self.items():
                try:
                    self[key] = convert(value)
                except (ValueError, TypeError) as error:
                    raise ValueError(
                        f"{key} cannot become one tensor: {error}. Rows of unequal length? Give padding=True, "
                        f"and truncation=True with max_length where rows are too long."
                    ) from error
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, cast to a dtype, or both; the dtype touches floating tensors only.

        Args:
            args, kwargs: `device` and `dtype` in any order, as for `torch.Tensor.to`.
        """
        import torch

        dtype = kwargs.pop("dtype", None)
        device = kwargs.pop("device", None)
        for argument in args:
            if isinstance(argument, torch.dtype):
                dtype = argument
            elif argument is not None:
                device = argument

        def move(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                cast = dtype if value.is_floating_point() else None
                return value.to(device=device, dtype=cast, **kwargs)
            if isinstance(value, (list, tuple)):
                return type(value)(move(item) for item in value)
            return value

        for key, value in self.items():
            self[key] = move(value)
        return self


def _converter(tensor_type: str) -> Callable[[Any], Any]:
    name = getattr(tensor_type, "value", tensor_type)  # enum members of other libraries pass too
    if name == "np":
        import numpy as np

        return np.asarray
    if name == "pt":
        import numpy as np
        import torch

        def tensor(value: Any) -> torch.Tensor:
            if isinstance(value, torch.Tensor):
                return value
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
                return torch.stack(list(value))
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
                return torch.from_numpy(np.stack(value))
            return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.tensor(value)

        return tensor
    raise ValueError(f"return_tensors is {tensor_type!r}; it may be 'pt', 'np' or None")


def output_options(
    config: Config, output_attentions: bool | None, output_hidden_states: bool | None, return_dict: bool | None
) -> tuple[bool, bool, bool]:
    """The three options of every forward, each from the configuration where it is not given."""
    return (
        config.output_attentions if output_attentions is None else output_attentions,
        config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        config.return_dict if return_dict is None else return_dict,
    )
