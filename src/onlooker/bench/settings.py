"""How a benchmark is run, and the shapes that follow from it: published widths, fewer layers, or toys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYERS = 32  # of LLaMA-7B, Vicuna-7B and OPT-2.7B


@dataclass(frozen=True)
class Settings:
    """What the caller wants.

    Args:
        rounds: measured ones.
        threads: of torch; with one, processor time is measured, with more the clock of the wall.
        depth: layers of the language model, of 32. All else that makes a model long is cut in proportion: layers of
            the other parts, and words of the vocabulary, so that each part keeps its share of the time.
        is_tiny: toys, in seconds: to see that everything runs.
        rows: names of the rows that are asked for.
    """

    rounds: int = 5
    threads: int = 1
    depth: int = 4
    is_tiny: bool = False
    rows: frozenset[str] = frozenset()

    def layers(self, published: int, least: int = 1) -> int:
        if self.is_tiny:
            return max(2, least)
        return max(least, round(published * self.depth / LAYERS))

    def words(self, published: int) -> int:
        return 512 if self.is_tiny else max(512, published * self.depth // LAYERS // 64 * 64)

    def told(self, **published: int) -> str:
        """What was reduced: "4 of 32 layers of LLaMA, 5 of 39 of ViT-g".

        Args:
            published: name of a part -> its published layers.
        """
        if self.is_tiny:
            return "toy widths"
        parts = [
            f"{name.replace('_', '-')} {self.layers(count)} of {count} layers" for name, count in published.items()
        ]
        return "published widths, " + ", ".join(parts) + ", vocabulary in proportion"

    # -- parts ------------------------------------------------------------------------------------------------------

    def llama(self) -> dict[str, Any]:
        """LLaMA-7B, Vicuna-7B."""
        wide = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32}
        toy = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4}
        return {
            "model_type": "llama",
            **(toy if self.is_tiny else wide),
            "num_key_value_heads": 4 if self.is_tiny else 32,
            "num_hidden_layers": self.layers(32),
            "vocab_size": self.words(32000),
            "max_position_embeddings": 4096,
            **_NO_END,
        }

    def opt(self) -> dict[str, Any]:
        """OPT-2.7B."""
        width, heads = (64, 4) if self.is_tiny else (2560, 32)
        return {
            "model_type": "opt",
            "hidden_size": width,
            "word_embed_proj_dim": width,
            "ffn_dim": 4 * width,
            "num_attention_heads": heads,
            "num_hidden_layers": self.layers(32),
            "vocab_size": self.words(50304),
            "max_position_embeddings": 2048,
            **_NO_END,
        }

    def vit_g(self) -> dict[str, Any]:
        """EVA's ViT-g, 224 x 224 pixels."""
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 28}
        return {**(toy if self.is_tiny else {}), "num_hidden_layers": self.layers(39)}

    def qformer(self, layers: int | None = None) -> dict[str, Any]:
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 512}
        return {
            **(toy if self.is_tiny else {}),
            "encoder_hidden_size": 32 if self.is_tiny else 1408,
            "num_hidden_layers": layers or self.layers(12, least=2),
        }

    def clip(self) -> dict[str, Any]:
        """CLIP ViT-L/14, 224 x 224 pixels."""
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 28}
        wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "image_size": 224}
        return {
            "model_type": "clip_vision_model",
            **(toy if self.is_tiny else wide),
            "num_hidden_layers": self.layers(24),
            "patch_size": 14,
        }

    @property
    def image_size(self) -> int:
        return 28 if self.is_tiny else 224

    @property
    def patches(self) -> int:
        """Of a frame, the class token among them."""
        return (self.image_size // 14) ** 2 + 1


#: Answers are of equal length, so nothing ends them; ids of the placeholders are those behind these.
_NO_END: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
FIRST_WORD = 16
PLACEHOLDER = 8
