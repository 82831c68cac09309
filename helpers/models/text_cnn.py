"""TextCNN: convolutions over word vectors, one maximum over time (Kim 2014, arXiv 1408.5882)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextCNN(nn.Module):
    """Word ids in, logits of the classes out. `embeddings`, with padding in row 0, is copied;
    `freeze` keeps it as it is. There are `filters` of each of the `widths` (in words)."""

    def __init__(self, embeddings: np.ndarray | Tensor, n_classes: int,
                 widths: Sequence[int] = (3, 4, 5), filters: int = 100, dropout: float = 0.5,
                 freeze: bool = False):  # fmt: skip
        super().__init__()
        weights = torch.as_tensor(embeddings, dtype=torch.float32).clone()
        self.embedding = nn.Embedding.from_pretrained(weights, freeze=freeze, padding_idx=0)
        size = weights.shape[1]
        self.convolutions = nn.ModuleList(nn.Conv1d(size, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(widths), n_classes)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The maximum of each filter over the text, `(B, filters x widths)`. A window counts if it
        starts on a real word, and may reach over the text's end into zeros."""
        real = attention_mask.bool().unsqueeze(1)  # (B, 1, T)
        vectors = self.embedding(input_ids).transpose(1, 2) * real  # (B, size, T)
        pooled = []
        for convolution in self.convolutions:
            windows = convolution(F.pad(vectors, (0, convolution.kernel_size[0] - 1)))
            windows = windows.masked_fill(~real, -torch.inf)  # (B, filters, T)
            pooled.append(F.relu(windows.amax(dim=2)))
        return torch.cat(pooled, dim=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Word ids and mask `(B, T)` -> logits `(B, n_classes)`."""
        return self.head(self.dropout(self.features(input_ids, attention_mask)))

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, for `transfer`; all widths are one group."""
        parts = {"embeddings": self.embedding, "windows": self.convolutions, "head": self.head}
        return {name: list(part.parameters()) for name, part in parts.items()}
