"""T5, the encoder-decoder language model of BLIP-2 (arXiv:1910.10683).

Letters: B batch, T new positions, S all positions or the encoder's, D hidden, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.language.config import T5Config
from onlooker.language.loss import IGNORED
from onlooker.language.outputs import Seq2SeqLMOutput, StackOutput
from onlooker.language.protocol import Decoding
from onlooker.language.t5_decoding import T5Decoding
from onlooker.language.t5_layers import T5Attention, T5DenseReluDense, T5Stack
from onlooker.nn.cache import CrossCache
from onlooker.nn.masks import additive, check_covers, is_right_padded, padding_mask, positions
from onlooker.nn.prefix import SourcePrefix
from onlooker.outputs import output_options


class T5LanguageModel(nn.Module):
    """T5 with its head: tied to the embedding and scaled, or (Flan) its own."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, self.shared, is_decoder=False)
        self.decoder = T5Stack(config, self.shared, is_decoder=True)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        _initialize(self, config)
        self.tie_weights()

    def tied_weights(self) -> dict[str, str]:
        """Name of each duplicate -> name of the parameter that it is."""
        names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
        if self.config.tie_word_embeddings:
            names.append("lm_head.weight")
        return dict.fromkeys(names, "shared.weight")

    def tie_weights(self) -> None:
        self.encoder.embed_tokens = self.decoder.embed_tokens = self.shared
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.shared.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.shared

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.shared = module  # type: ignore[assignment]
        self.encoder.embed_tokens = self.decoder.embed_tokens = module

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.lm_head = module  # type: ignore[assignment]

    def get_encoder(self) -> nn.Module:
        return self.encoder

    def get_decoder(self) -> nn.Module:
        return self.decoder

    @property
    def decoder_start_token_id(self) -> int:
        start = self.config.decoder_start_token_id
        start = self.config.pad_token_id if start is None else start
        if start is None:
            raise ValueError("the T5 configuration has neither decoder_start_token_id nor pad_token_id: set one")
        return start

    def head(self, hidden: Tensor) -> Tensor:
        """Scores of the vocabulary; the tied head is scaled down, because embeddings are large.

        Newer files say so apart from the tie, which they claim of every T5.
        """
        if getattr(self.config, "scale_decoder_outputs", self.config.tie_word_embeddings):
            hidden = hidden * self.config.d_model**-0.5
        return self.lm_head(hidden)

    def encode(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> StackOutput:
        """Run the encoder; distances are counted between attended tokens, so pads may stand anywhere.

        Raises:
            ValueError: a mask of another shape than [B, S].
        """
        if attention_mask is not None:
            check_covers(attention_mask, inputs_embeds)
        index = self._positions(attention_mask, inputs_embeds)
        mask = self.encoder.bias(index, index)
        padding = padding_mask(attention_mask, inputs_embeds.dtype)
        return self.encoder(
            inputs_embeds,
            mask if padding is None else mask + padding,
            need_weights=need_weights,
            keep_states=keep_states,
        )

    def decode(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        source: Tensor,
        source_mask: Tensor | None,
        cache: CrossCache | None = None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> StackOutput:
        """Run the decoder over new positions; attention_mask [B, S] covers the cached ones too."""
        past, length = cache.length if cache is not None else 0, inputs_embeds.shape[1]
        index = torch.arange(past + length, device=inputs_embeds.device)[None]
        seen = index[:, None, None, :] <= index[:, None, past:, None]
        if attention_mask is not None and not bool(attention_mask.all()):
            seen = seen & attention_mask[:, None, None, :].bool()
            if not is_right_padded(attention_mask):
                index = positions(attention_mask)
        mask = self.decoder.bias(index[:, past:], index) + additive(seen, inputs_embeds.dtype)
        return self.decoder(inputs_embeds, mask, source, source_mask, cache, need_weights, keep_states)

    def _positions(self, attention_mask: Tensor | None, inputs_embeds: Tensor) -> Tensor:
        if attention_mask is None or is_right_padded(attention_mask):
            return torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        return positions(attention_mask)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        *,
        encoder_outputs: StackOutput | tuple | None = None,
        past_key_values: CrossCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Seq2SeqLMOutput | tuple:
        """Scores of the decoder's next tokens.

        Args:
            input_ids: [B, S]; or inputs_embeds [B, S, D]; or encoder_outputs of an earlier call.
            attention_mask: [B, S], 1 = attended.
            decoder_input_ids: [B, T]; made from `labels` by default.
            labels: [B, T], -100 = not scored; gives `loss`.

        Raises:
            ValueError: no input, or nothing for the decoder.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        if encoder_outputs is None:
            if (input_ids is None) == (inputs_embeds is None):
                raise ValueError("give exactly one of input_ids and inputs_embeds")
            embeds = self.shared(input_ids) if inputs_embeds is None else inputs_embeds
            encoded = self.encode(embeds, attention_mask, need_weights, keep_states)
        else:
            encoded = encoder_outputs if isinstance(encoder_outputs, dict) else StackOutput(*encoder_outputs)
        if decoder_inputs_embeds is None:
            if decoder_input_ids is None:
                if labels is None:
                    raise ValueError(
                        "an encoder-decoder needs decoder_input_ids, or labels to make them from; "
                        f"to begin an answer give the start token, {self.decoder_start_token_id}"
                    )
                decoder_input_ids = self.shift_right(labels)
            decoder_inputs_embeds = self.shared(decoder_input_ids)
        cache = past_key_values
        if cache is None and (self.config.use_cache if use_cache is None else use_cache) and not self.training:
            cache = CrossCache(len(self.decoder.block))
        source = encoded.last_hidden_state
        source_mask = padding_mask(attention_mask, source.dtype)
        decoded = self.decode(
            decoder_inputs_embeds, decoder_attention_mask, source, source_mask, cache, need_weights, keep_states
        )
        if cache is not None:
            cache.self_attention.advance(decoder_inputs_embeds.shape[1])
        logits = self.head(decoded.last_hidden_state)
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
        output = Seq2SeqLMOutput(
            loss,
            logits,
            cache,
            decoded.hidden_states,
            decoded.attentions,
            decoded.cross_attentions,
            source,
            encoded.hidden_states,
            encoded.attentions,
        )
        return output if as_record else output.to_tuple()

    def shift_right(self, labels: Tensor) -> Tensor:
        """Decoder inputs for teacher forcing: the start token, then the labels without their last; -100 becomes pad."""
        pad = self.config.pad_token_id
        if pad is None:
            raise ValueError("the T5 configuration has no pad_token_id to put in place of -100: set it")
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.decoder_start_token_id)
        return shifted.masked_fill(shifted == IGNORED, pad)

    def begin(
        self,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        max_new_tokens: int,
        use_cache: bool = True,
        *,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
        prefix: SourcePrefix | None = None,
    ) -> Decoding:
        """Run the encoder, and the decoder over its prompt; be ready for `max_new_tokens` more.

        Args:
            inputs_embeds: [B, S, D]; None with a prefix.
            attention_mask: [B, S], 1 = attended; pads may stand anywhere.
            decoder_input_ids: [B, T], at least the start token.
            prefix: the snapshot of another decoding: the encoder's output for the prompt of all rows.

        Raises:
            ValueError: both a prompt and a prefix, or neither.
        """
        start, mask = decoder_input_ids, decoder_attention_mask
        return T5Decoding(self, inputs_embeds, attention_mask, start, mask, max_new_tokens, use_cache, prefix)


def _initialize(model: T5LanguageModel, config: T5Config) -> None:
    """Standard deviations of the original: attention is unscaled, so the queries start small."""
    factor, d_model = config.initializer_factor, config.d_model
    nn.init.normal_(model.shared.weight, std=factor)
    nn.init.normal_(model.lm_head.weight, std=factor)
    for module in model.modules():
        if isinstance(module, T5Attention):
            nn.init.normal_(module.q.weight, std=factor * (d_model * config.d_kv) ** -0.5)
            nn.init.normal_(module.k.weight, std=factor * d_model**-0.5)
            nn.init.normal_(module.v.weight, std=factor * d_model**-0.5)
            nn.init.normal_(module.o.weight, std=factor * (config.num_heads * config.d_kv) ** -0.5)
            if hasattr(module, "relative_attention_bias"):
                nn.init.normal_(module.relative_attention_bias.weight, std=factor * d_model**-0.5)
        elif isinstance(module, T5DenseReluDense):
            for name, linear in module.named_children():
                if isinstance(linear, nn.Linear):
                    size = config.d_ff if name == "wo" else d_model
                    nn.init.normal_(linear.weight, std=factor * size**-0.5)
