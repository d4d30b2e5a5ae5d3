"""Prompts as a latent diffusion's UNet reads them, by one CLIP text encoder or by two.

Axes: P prompts, T tokens, D dimension. Stable Diffusion 1.x and 2.x read the last layer of one encoder; SDXL the last but
one layer of two, side by side, and the second's pooled projection (Podell et al. 2023, section 2.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptStates:
    """Prompts that have been read."""

    hidden_PTD: Tensor
    """What the UNet attends to."""
    pooled_PD: Tensor | None = None
    """One vector per prompt, where there are two encoders."""

    def chosen(self, indices_P: Tensor) -> Self:
        """Some of them, in that order."""
        pooled_PD = None if self.pooled_PD is None else self.pooled_PD[indices_P]
        return type(self)(self.hidden_PTD[indices_P], pooled_PD)

    def to(self, device: torch.device | str) -> Self:
        """On another device."""
        return type(self)(self.hidden_PTD.to(device), None if self.pooled_PD is None else self.pooled_PD.to(device))

    def after_nothing(self) -> Self:
        """The same after a prompt of zeros, which is how SDXL was told nothing."""
        assert self.pooled_PD is not None
        hidden_PTD = torch.cat([torch.zeros_like(self.hidden_PTD[:1]), self.hidden_PTD])
        return type(self)(hidden_PTD, torch.cat([torch.zeros_like(self.pooled_PD[:1]), self.pooled_PD]))


@torch.no_grad()
def read_prompts(prompts: Sequence[str], encoders: Sequence[tuple[Any, Any]]) -> PromptStates:
    """Reads prompts with one or two pairs of (tokenizer, text encoder).

    Raises ValueError for a prompt that is longer than the encoder reads.
    """
    states = [_read(prompts, tokenizer, encoder) for tokenizer, encoder in encoders]
    if len(states) == 1:
        return PromptStates(states[0].last_hidden_state)
    hidden_PTD = torch.cat([state.hidden_states[-2] for state in states], dim=-1)
    return PromptStates(hidden_PTD, states[-1].text_embeds)


def _read(prompts: Sequence[str], tokenizer: Any, encoder: Any) -> Any:
    length = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
    for prompt in prompts:
        if (count := len(tokenizer(prompt).input_ids)) > length:
            raise ValueError(
                f"generator.json: the prompt has {count} tokens, the text encoder reads {length}: {prompt!r}"
            )
    tokens = tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt")
    masked = bool(getattr(encoder.config, "use_attention_mask", False))
    mask = tokens.attention_mask if masked else None
    return encoder(tokens.input_ids, attention_mask=mask, output_hidden_states=True)
