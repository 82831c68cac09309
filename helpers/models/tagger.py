"""Taggers: `BiLSTMTagger` is the model of Ma & Hovy 2016 (aclanthology.org/P16-1101),
`EncoderTagger` has a pre-trained transformer in place of word vectors and LSTM.
Shapes: B sentences, T words or subword tokens, K tags. An example is `(T,)` word ids, or `(T, C)`:
word id, id of the word's shape, ids of its characters (0 is padding in each)."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from helpers.models.crf import CRF
from helpers.models.encoder import EncoderClassifier
from helpers.text import Vocabulary

SHAPES = ("lower", "Title", "UPPER", "miXed", "number", "numb3r and letters", "neither")


def shape(word: str) -> int:
    """Which of the `SHAPES` a word has, counted from 1."""
    digits, lower = any(map(str.isdigit, word)), word.lower()
    if lower == word.upper():  # no letter that could be a capital
        return 5 if digits else 7
    if digits or word == lower:
        return 6 if digits else 1
    return 2 if word[1:] == word[1:].lower() else 3 if word == word.upper() else 4


def encode_words(sentences: Sequence[Sequence[str]], vocabulary: Vocabulary,
                 characters: Vocabulary, max_characters: int = 20) -> list[np.ndarray]:  # fmt: skip
    """Sentences as int32 arrays `(T, 2 + max_characters)`; a long word keeps its two ends."""
    sentences, width, left = list(sentences), max_characters, max_characters // 2
    numbers = {word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(sentences)))}
    table = np.zeros((len(numbers), 2 + width), dtype=np.int32)
    for word, i in numbers.items():
        table[i, :2] = vocabulary[word if word in vocabulary else word.lower()], shape(word)
        ends = word if len(word) <= width else word[:left] + word[left - width :]
        table[i, 2 : 2 + len(ends)] = characters.encode(ends)
    return [table[[numbers[word] for word in row]] for row in sentences]


class Spelling(nn.Module):
    """A word's spelling as `size` numbers: a vector of its shape, and a character CNN's maxima."""

    def __init__(self, characters: int, shapes: bool, dropout: float, filters: int = 30):
        super().__init__()
        self.shape = nn.Embedding(len(SHAPES) + 1, 10, padding_idx=0) if shapes else None
        self.character, self.size = None, 10 * shapes + (filters if characters else 0)
        if characters:
            self.character = nn.Embedding(characters, 30, padding_idx=0)
            nn.init.uniform_(self.character.weight[1:].data, -(0.1**0.5), 0.1**0.5)  # the paper
            self.windows = nn.Conv1d(30, filters, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Ids `(B, T)` or `(B, T, C)` -> the words' `(B, T)`, and what is known of their spelling,
        `[(B, T, size)]` with zeros at padding, or `[]` if none of it is read."""
        ids = input_ids if input_ids.dim() == 3 else input_ids[..., None]
        if not self.size:
            return ids[..., 0], []
        real, parts = attention_mask.bool(), []
        words = ids[real]  # (words, C): no sums over padding
        if self.shape is not None:
            parts.append(self.shape(words[:, 1]))
        if self.character is not None:
            letters = words[:, 2:]
            found = self.windows(self.dropout(self.character(letters)).transpose(1, 2))
            beyond = letters == 0
            beyond[:, 0] = False  # the empty word is a blank
            parts.append(found.masked_fill(beyond.unsqueeze(1), -torch.inf).amax(dim=2))
        known = torch.cat(parts, dim=1)
        placed = known.new_zeros(*real.shape, self.size).masked_scatter(real.unsqueeze(2), known)
        return ids[..., 0], [placed]


class BiLSTMTagger(nn.Module):
    """Word vectors and spelling -> bidirectional LSTM -> logits of the tags. `embeddings`, padding
    in row 0, is copied; `freeze` keeps it. `characters` counts their vocabulary (0: no CNN)."""

    def __init__(self, embeddings: np.ndarray | Tensor, n_tags: int, *, hidden: int = 150,
                 characters: int = 0, shapes: bool = False, crf: CRF | None = None,
                 dropout: float = 0.5, freeze: bool = False):  # fmt: skip
        super().__init__()
        weights = torch.as_tensor(embeddings, dtype=torch.float32).clone()
        self.embedding = nn.Embedding.from_pretrained(weights, freeze=freeze, padding_idx=0)
        self.spelling = Spelling(characters, shapes, dropout)
        size = weights.shape[1] + self.spelling.size
        self.forwards = nn.LSTM(size, hidden, batch_first=True)
        self.backwards = nn.LSTM(size, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, n_tags)
        self.crf = crf

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The LSTM's states at each word, `(B, T, 2 hidden)`."""
        words, spelling = self.spelling(input_ids, attention_mask)
        x = self.dropout(torch.cat([self.embedding(words), *spelling], dim=2))
        # Reverse each sentence's own words, padding stays behind: as packed sequences, but faster.
        place = torch.arange(words.size(1), device=words.device)
        turned = ((attention_mask.sum(1, keepdim=True) - 1 - place) % words.size(1))[..., None]
        back = self.backwards(x.take_along_dim(turned, 1))[0]
        return torch.cat([self.forwards(x)[0], back.take_along_dim(turned, 1)], dim=2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids `(B, T)` or `(B, T, C)`, mask `(B, T)` -> logits (emissions) `(B, T, K)`."""
        return self.head(self.dropout(self.features(input_ids, attention_mask)))

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, for `transfer`; the spelling, which is new, counts as head."""
        parts = {"embeddings": [self.embedding], "lstm": [self.forwards, self.backwards],
                 "head": filter(None, [self.spelling, self.head, self.crf])}  # fmt: skip
        return {name: list(nn.ModuleList(part).parameters()) for name, part in parts.items()}


class EncoderTagger(EncoderClassifier):
    """A pre-trained encoder's last layer, beside it the words' spelling if asked for, dropout, one
    linear map: logits `(B, T, K)` of subword tokens (see `text.subwords`)."""

    def __init__(self, name: str, n_tags: int, *, dropout: float = 0.1, pretrained: bool = True,
                 characters: int = 0, shapes: bool = False, crf: CRF | None = None):  # fmt: skip
        super().__init__(name, n_tags, dropout, pretrained)
        self.spelling = Spelling(characters, shapes, dropout)
        if self.spelling.size:
            self.head = nn.Linear(self.head.in_features + self.spelling.size, n_tags)
        self.crf = crf

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last layer and the spelling at each token, `(B, T, H + spelling.size)`."""
        tokens, spelling = self.spelling(input_ids, attention_mask)
        state = self.encoder(input_ids=tokens, attention_mask=attention_mask).last_hidden_state
        return torch.cat([state, *spelling], dim=2)
