"""BLIP-2's first stage: one Q-Former learns to compare, to match and to describe (arXiv:2301.12597, section 3.2).

Letters: B rows, N rows of all processes, Q query tokens, T text positions, S patch features, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.language.loss import IGNORED
from onlooker.models.blip2.retrieval import Blip2ForImageTextRetrieval
from onlooker.train import losses
from onlooker.train.attention_masks import bidirectional, multimodal_causal
from onlooker.train.gathering import gather_rows, gather_text, processes
from onlooker.train.stages import Stage
from onlooker.train.text_head import TextHead

#: what a retrieval checkpoint does not carry: temperature and text head
EXTRA_FILE = "pretraining.safetensors"
FIRST_TEMPERATURE = 0.07


class Blip2Pretraining(Stage):
    """Contrast (ITC), matching with mined negatives (ITM) and text generation (ITG) on pictures and captions.

    Args:
        model: with `use_qformer_text_input`; all of it learns but the vision tower.
        trains: regexes of the model's parameter names that learn instead.
        label_smoothing: of ITC and ITG.
        start_token_id: [DEC], which stands in for [CLS] where the caption is written; the vocabulary's last by default.
        equal_texts_match: two rows with the same caption are no negatives of each other. Pictures of the same thing
            are said so with `group_ids` in the batch.

    Raises:
        ValueError: a model without text layers.
    """

    name = "blip2-stage1"
    families = ("blip-2",)
    trains = (r"(?!vision_model\.)",)

    def __init__(
        self,
        model: Blip2ForImageTextRetrieval,
        trains: Sequence[str] | None = None,
        *,
        label_smoothing: float = losses.LABEL_SMOOTHING,
        start_token_id: int | None = None,
        equal_texts_match: bool = True,
    ) -> None:
        config = model.config.qformer_config
        if not isinstance(model, Blip2ForImageTextRetrieval) or not config.use_qformer_text_input:
            raise ValueError(
                "the first stage wants a Blip2ForImageTextRetrieval whose qformer_config has use_qformer_text_input"
            )
        super().__init__(model, trains)
        self.temperature = nn.Parameter(torch.tensor(FIRST_TEMPERATURE))
        self.text_head = TextHead(config)
        self.label_smoothing = label_smoothing
        self.start_token_id = config.vocab_size - 1 if start_token_id is None else start_token_id
        self.equal_texts_match = equal_texts_match

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        group_ids: Tensor | None = None,
        **surplus: object,
    ) -> dict[str, Tensor]:
        """
        Args:
            pixel_values: [B, 3, h, w]; picture i belongs to text i.
            input_ids: [B, T] in the Q-Former's vocabulary, [CLS] first and [SEP] last.
            attention_mask: [B, T].
            group_ids: [B]; rows with the same number belong together too.

        Returns:
            "loss", its terms "itc", "itm" and "itg"; how often each was right, "itc_accuracy" (the best of all texts
            belongs to the picture), "itm_accuracy" and "itg_accuracy"; and the "temperature".

        Raises:
            ValueError: other than one text for each picture, or a single pair, which has no negatives.
        """
        if len(pixel_values) != len(input_ids):
            raise ValueError(f"{len(pixel_values)} pictures and {len(input_ids)} texts: this stage takes pairs")
        if len(input_ids) * processes()[1] < 2:
            raise ValueError("one pair has no negatives to be compared with: the batch must have 2 rows or more")
        ids, mask = self.model._text(input_ids, attention_mask)
        patches = self.model.vision_model(pixel_values, return_dict=True).last_hidden_state  # [B, S, D']
        queries, itg, itg_accuracy = self._describe(patches, ids, mask)
        positives = self._positives(ids, mask, group_ids)
        scores = self._contrast(queries, ids, mask)
        itc = losses.contrastive_loss(*scores, positives, self.label_smoothing)
        itm, itm_accuracy = self._match(patches, ids, mask, scores, positives)
        right = positives.gather(1, scores[0].argmax(1, keepdim=True))
        return {
            "loss": itc + itm + itg,
            "itc": itc.detach(),
            "itm": itm.detach(),
            "itg": itg.detach(),
            "itc_accuracy": right.float().mean(),
            "itm_accuracy": itm_accuracy,
            "itg_accuracy": itg_accuracy,
            "temperature": self.temperature.detach().clone(),
        }

    def _join(self, patches: Tensor, ids: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and text through the Q-Former under one of the three masks -> features [B, Q, D] and [B, T, D]."""
        tokens = self.model.query_tokens.expand(len(ids), -1, -1)
        joined = self.model.qformer(
            self.model.embeddings(ids, query_embeds=tokens),
            query_length=tokens.shape[1],
            attention_mask=seen,
            encoder_hidden_states=patches,
            return_dict=True,
        )
        return joined.last_hidden_state[:, : tokens.shape[1]], joined.last_hidden_state[:, tokens.shape[1] :]

    def _describe(self, patches: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ITG. The queries do not see the text here, so that their features serve contrast as well."""
        written = torch.cat([torch.full_like(ids[:, :1], self.start_token_id), ids[:, 1:]], dim=1)
        seen = multimodal_causal(self.model.query_tokens.shape[1], mask)
        queries, text = self._join(patches, written, seen)
        logits = self.text_head(text, self.model.embeddings.word_embeddings.weight)
        return queries, *losses.generation_loss(logits, written, mask, self.label_smoothing)

    def _contrast(self, queries: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """ITC. Under the uni-modal mask the text is as if alone, and so it runs alone."""
        model = self.model
        text = model.qformer(
            model.embeddings(ids), query_length=0, attention_mask=mask, return_dict=True
        ).last_hidden_state[:, 0]
        images = F.normalize(model.vision_projection(queries), dim=-1)
        texts = F.normalize(model.text_projection(text), dim=-1)
        return losses.similarities(images, texts, gather_rows(images), gather_rows(texts), self.temperature)

    def _match(
        self, patches: Tensor, ids: Tensor, mask: Tensor, scores: tuple[Tensor, Tensor], positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """ITM: every pair, every text with a wrong picture, every picture with a wrong text."""
        all_ids, all_mask = gather_text(ids, mask)
        wrong_text = losses.mine_negatives(scores[0], positives)
        wrong_picture = losses.mine_negatives(scores[1], positives)
        missing = all_ids.shape[1] - ids.shape[1]
        ids, mask = F.pad(ids, (0, missing)), F.pad(mask, (0, missing))
        texts = torch.cat([ids, ids, all_ids[wrong_text.clamp(min=0)]])
        texts_mask = torch.cat([mask, mask, all_mask[wrong_text.clamp(min=0)]])
        pictures = torch.cat([patches, gather_rows(patches)[wrong_picture.clamp(min=0)], patches])
        labels = torch.cat([torch.ones_like(wrong_text), _zero(wrong_picture), _zero(wrong_text)])
        queries, _ = self._join(pictures, texts, bidirectional(self.model.query_tokens.shape[1], texts_mask))
        logits = self.model.itm_head(queries).mean(1)
        scored = labels != IGNORED
        right = (logits.argmax(1) == labels)[scored].float().mean()
        return losses.matching_loss(logits, labels), right

    def _positives(self, ids: Tensor, mask: Tensor, group_ids: Tensor | None) -> Tensor:
        """[B, N], True where picture and text of two rows belong together."""
        rank, world = processes()
        own = torch.arange(len(ids), device=ids.device) + rank * len(ids)
        positives = own[:, None] == torch.arange(len(ids) * world, device=ids.device)
        if group_ids is not None:
            positives |= group_ids[:, None] == gather_rows(group_ids)
        if self.equal_texts_match:
            all_ids, all_mask = gather_text(ids, mask)
            words = all_ids.masked_fill(~all_mask.bool(), -1)
            own_words = words[rank * len(ids) : (rank + 1) * len(ids)]
            positives |= (own_words[:, None] == words).all(-1)
        return positives

    def save(self, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write the retrieval model, and beside it the temperature and the text head, to go on from."""
        from safetensors.torch import save_file

        super().save(folder, state)
        tensors = self.state_dict() if state is None else state
        extra = {name: x.contiguous() for name, x in tensors.items() if not name.startswith("model.")}
        save_file(extra, Path(folder) / EXTRA_FILE, {"format": "pt"})

    def load_extra(self, folder: str | Path) -> None:
        """Read what `save` wrote beside the model."""
        from safetensors.torch import load_file

        tensors = load_file(Path(folder) / EXTRA_FILE)
        with torch.no_grad():
            self.temperature.copy_(tensors.pop("temperature"))
        self.text_head.load_state_dict({name.removeprefix("text_head."): x for name, x in tensors.items()})


def _zero(drawn: Tensor) -> Tensor:
    """Label 0 for every negative that was drawn."""
    return torch.where(drawn == IGNORED, IGNORED, 0)
