"""A classifier on a pre-trained encoder: mean of the token vectors, dropout, one linear layer."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn
from transformers import AutoModel

from helpers.models.pretrained import load_model, load_tokenizer  # noqa: F401
from helpers.text import Encoded


class EncoderClassifier(nn.Module):
    """Token ids in, logits of the classes out; `pretrained=False` gives random weights."""

    def __init__(self, name: str, n_classes: int, dropout: float = 0.1, pretrained: bool = True):
        super().__init__()
        self.encoder, _ = load_model(AutoModel, name, pretrained)
        if hasattr(self.encoder, "pooler"):
            self.encoder.pooler = None  # it reads the first token alone and is not used here
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.config.hidden_size, n_classes)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the last layer over the real tokens, `(B, H)`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        hidden = hidden.to(next(self.head.parameters()).dtype)  # autocast's are too short for a sum
        real = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask `(B, T)` -> logits `(B, n_classes)`."""
        return self.head(self.dropout(self.features(input_ids, attention_mask)))


def encode_texts(tokenizer, texts: Sequence[str], labels: Sequence[int] | None = None,
                 max_length: int = 128) -> Encoded:  # fmt: skip
    """Texts as token ids with the model's special tokens, cut at `max_length` tokens."""
    least, most = tokenizer.num_special_tokens_to_add() + 1, tokenizer.model_max_length
    if not least <= max_length <= most:
        raise ValueError(f"max_length is {max_length}: this model reads {least} to {most} tokens.")
    rows = tokenizer(list(texts), truncation=True, max_length=max_length, verbose=False)
    return Encoded(map(np.array, rows["input_ids"]), labels)
