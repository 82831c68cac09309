"""TextCNN: convolutions over word vectors, one maximum over time (Kim 2014, arXiv 1408.5882)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class TextCNN(nn.Module):
    """Word ids in, class scores out: embed, slide windows, keep each filter's strongest match.

    Parameters
    ----------
    embeddings: `(vocabulary, dimensions)` float32, row 0 for padding. The model owns a copy.
    n_classes: number of classes.
    widths, filters: window widths in words, and filters for each width.
    dropout: share of the pooled features that is dropped while training.
    freeze: keep the embeddings as they are; else they are tuned like everything above them.
    """

    def __init__(
        self, embeddings, n_classes, widths=(3, 4, 5), filters=100, dropout=0.5, freeze=False
    ):
        super().__init__()
        weights = torch.as_tensor(embeddings, dtype=torch.float32).clone()
        self.embedding = nn.Embedding.from_pretrained(weights, freeze=freeze, padding_idx=0)
        size = weights.shape[1]
        self.convolutions = nn.ModuleList(nn.Conv1d(size, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(widths), n_classes)

    def features(self, input_ids, attention_mask):
        """The strongest match of each filter, `(batch, filters x widths)`.

        A window counts if it starts on a real word; it may reach over the text's end into zeros,
        so even one word has features, and the width of the batch's padding changes nothing.
        """
        real = attention_mask.bool().unsqueeze(1)  # (batch, 1, time)
        vectors = self.embedding(input_ids).transpose(1, 2) * real  # (batch, size, time)
        pooled = []
        for convolution in self.convolutions:
            windows = convolution(F.pad(vectors, (0, convolution.kernel_size[0] - 1)))
            windows = windows.masked_fill(~real, -torch.inf)  # (batch, filters, time)
            pooled.append(F.relu(windows.amax(dim=2)))
        return torch.cat(pooled, dim=1)

    def forward(self, input_ids, attention_mask):
        """Scores `(batch, classes)` of `(batch, time)` word ids."""
        return self.head(self.dropout(self.features(input_ids, attention_mask)))

    def layer_groups(self):
        """Parameters by depth, for `transfer`; the windows stand side by side, so they are one."""
        parts = {"embeddings": self.embedding, "windows": self.convolutions, "head": self.head}
        return {name: list(part.parameters()) for name, part in parts.items()}
