"""How a benchmark is run, and the shapes that follow from it: published widths, fewer layers, or toys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYERS = 32  # of the language models, LLaMA-7B, Vicuna-7B and OPT-2.7B
#: part -> published layers, and how few it can have: every second layer of a Q-Former looks at the picture
_LAYERS = {"LLaMA": (LAYERS, 1), "OPT": (LAYERS, 1), "ViT-g": (39, 1), "CLIP": (24, 1), "Q-Former": (12, 2)}


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

    def layers(self, part: str) -> int:
        """How many of a part's layers there are."""
        published, least = _LAYERS[part]
        return 2 if self.is_tiny else max(least, round(published * self.depth / LAYERS))

    def words(self, published: int) -> int:
        return 512 if self.is_tiny else max(512, published * self.depth // LAYERS // 64 * 64)

    def told(self, *parts: str) -> str:
        """What was reduced: "published widths, layers of LLaMA 4 of 32, of ViT-g 5 of 39, vocabulary in proportion"."""
        if self.is_tiny:
            return "toy widths"
        some = ", of ".join(f"{part} {self.layers(part)} of {_LAYERS[part][0]}" for part in parts)
        return f"published widths, layers of {some}, vocabulary in proportion"

    # -- parts ------------------------------------------------------------------------------------------------------

    def llama(self) -> dict[str, Any]:
        """LLaMA-7B, Vicuna-7B."""
        wide = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32}
        toy = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4}
        return {
            "model_type": "llama",
            **(toy if self.is_tiny else wide),
            "num_key_value_heads": 4 if self.is_tiny else 32,
            "num_hidden_layers": self.layers("LLaMA"),
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
            "num_hidden_layers": self.layers("OPT"),
            "vocab_size": self.words(50304),
            "max_position_embeddings": 2048,
            **_NO_END,
        }

    def vit_g(self) -> dict[str, Any]:
        """EVA's ViT-g, 224 x 224 pixels."""
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 28}
        return {**(toy if self.is_tiny else {}), "num_hidden_layers": self.layers("ViT-g")}

    def qformer(self, layers: int | None = None) -> dict[str, Any]:
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 512}
        return {
            **(toy if self.is_tiny else {}),
            "encoder_hidden_size": 32 if self.is_tiny else 1408,
            "num_hidden_layers": layers or self.layers("Q-Former"),
        }

    def clip(self) -> dict[str, Any]:
        """CLIP ViT-L/14, 224 x 224 pixels."""
        toy = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "image_size": 28}
        wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "image_size": 224}
        return {
            "model_type": "clip_vision_model",
            **(toy if self.is_tiny else wide),
            "num_hidden_layers": self.layers("CLIP"),
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
