"""Training data: the formats of the field read into one kind of record, and records put into batches."""

from typing import TYPE_CHECKING, Any

from onlooker.train.data.loading import LoadedRecords, load_record
from onlooker.train.data.mixture import Mixture
from onlooker.train.data.reading import FORMATS, read_records
from onlooker.train.data.record import BadRow, Medium, Record, Records, Turn
from onlooker.train.data.show import show_batch

if TYPE_CHECKING:
    from onlooker.train.data.collate import Collator

__all__ = [
    "FORMATS",
    "BadRow",
    "Collator",
    "LoadedRecords",
    "Medium",
    "Mixture",
    "Record",
    "Records",
    "Turn",
    "load_record",
    "read_records",
    "show_batch",
]


def __getattr__(name: str) -> Any:
    if name == "Collator":  # it needs torch, which reading rows and rendering the world do not
        from onlooker.train.data.collate import Collator

        return Collator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
