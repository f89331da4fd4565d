"""What a pipeline knows of what it did before: features of media, and beginnings of prompts, in one cache."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from onlooker.reuse import Cache, Entry
from onlooker.reuse.fingerprint import ModelIdentity, digest
from onlooker.reuse.prefixes import Prefixes


class Reuse:
    """A cache and the name under which a model's results stand in it.

    Args:
        about: what tells the model from others beside its configuration and weights.
    """

    def __init__(self, cache: Cache, *about: Any) -> None:
        self.cache = cache
        self.prefixes = Prefixes(cache)
        self._identity = ModelIdentity(*about)

    def model(self, model: Any) -> str:
        """The model's name: by its configuration and weights, as they are now."""
        return self._identity.of(model)

    def features(self, model: Any, medium: str) -> Tensor | None:
        """What the vision part made of a medium; `medium` is the digest of its pixel values."""
        found = self.cache.get("features", digest(self.model(model), medium), model.device)
        return None if found is None else found.tensors["features"]

    def keep_features(self, model: Any, medium: str, features: Tensor) -> Tensor:
        """Keep them; gives them back, apart from the batch that they were made in."""
        if features.untyped_storage().nbytes() > features.nbytes:
            features = features.clone()
        self.cache.put("features", digest(self.model(model), medium), Entry({"features": features}))
        return features
