"""Loading and saving of whole models, as one mixin."""

from __future__ import annotations

from onlooker.pretrained.mixin import PreTrainedModel

__all__ = ["PreTrainedModel"]
