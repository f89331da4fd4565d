"""From the scores of a next token to token ids: written once for every language model."""

from __future__ import annotations
