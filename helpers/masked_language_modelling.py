"""Texts with gaps for a masked language model, and how well it fills them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from helpers.pretraining import mask_tokens
from helpers.splits import normal
from helpers.text import IGNORED, Encoded
from helpers.training import predict


def pack(documents: Iterable[Sequence[str]], tokenizer, length: int = 64) -> list[np.ndarray]:
    """Neighbouring sentences of a document put together, up to `length` pieces with the marks at
    the ends; each text an int array `(T,)`. A sentence that is too long is cut, and nothing lost.

    Raises `ValueError` if `length` leaves no room beside the marks.
    """
    first, last, room = tokenizer.cls_token_id, tokenizer.sep_token_id, length - 2
    if room < 1:
        raise ValueError(f"{length} pieces are too few: the marks at the ends need room, too")
    packed = []
    for document in documents:
        if not (sentences := list(document)):
            continue
        current: list[int] = []
        for ids in tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]:
            if len(current) + len(ids) > room:
                packed.append(current)
                current = []
            current = current + ids
            while len(current) > room:
                packed.append(current[:room])
                current = current[room:]
        packed.append(current)
    return [np.array([first, *ids, last]) for ids in packed if ids]


def without(documents: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The documents that are none of `texts`, to keep held-out texts out of what is read.

    Texts with the same letters and digits are the same, wherever blanks, capitals and marks stand:
    a corpus of tokens has "3 bn" where a text has "3bn".
    """

    def letters(text: str) -> str:
        return normal(text).replace(" ", "")

    known = set(map(letters, texts))
    return [document for document in documents if letters(document) not in known]


class MaskedTexts(Encoded):
    """Texts `ids`, each `(T,)` with its marks, for `training.fit`: an example has gaps in
    `input_ids`, and in `labels` the true pieces there and -100 elsewhere.

    Each epoch hides other pieces (`begin` is the callback that says which epoch it is), a share
    of all but the marks, as `pretraining.mask_tokens` does. With `always` each of them is replaced
    by [MASK]: so a model is judged, for a piece that is left in sight is no gap.
    """

    def __init__(self, ids, tokenizer, share: float = 0.15, always: bool = False, seed: int = 0):
        super().__init__(ids)
        self.share, self.always, self.seed, self.epoch = share, always, seed, 0
        self.marks, self.mask_id = np.array(tokenizer.all_special_ids), tokenizer.mask_token_id
        marks = set(tokenizer.all_special_ids)
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        self.vocabulary = np.array(
            [i for piece, i in pieces if i not in marks and not piece.startswith("[unused")]
        )

    def begin(self, model, epoch: int) -> None:
        """A callback for `training.fit`."""
        self.epoch = epoch

    def __getitem__(self, i) -> dict:
        ids, rng = self.ids[i], np.random.default_rng((self.seed, self.epoch, int(i)))
        special = np.isin(ids, self.marks)
        hidden, labels = mask_tokens(
            ids, special, self.mask_id, self.vocabulary, rng, share=self.share
        )
        if self.always:
            hidden[labels != IGNORED] = self.mask_id
        return {"input_ids": hidden, "labels": labels}


def gaps(texts: MaskedTexts) -> np.ndarray:
    """The true piece at each gap between its neighbours, `(N, 3)`: left, piece, right. A neighbour
    is what a reader sees there: [MASK] where it is hidden, too."""
    found = []
    for i, ids in enumerate(texts.ids):
        item = texts[i]
        places, seen = np.flatnonzero(item["labels"] != IGNORED), item["input_ids"]
        found.append(np.stack([seen[places - 1], ids[places], seen[places + 1]], axis=1))
    return np.concatenate(found)


@torch.inference_mode()
def ranks(model, texts: MaskedTexts, batch_size: int = 64) -> np.ndarray:
    """Rank of the true piece among all pieces at each gap (1 = first), `(N,)`, as `gaps` has them.

    `model` has `scores` (hidden states to scores of all pieces), as `masked_head.MaskedLM` does.
    """
    hidden = predict(model, texts, batch_size=batch_size)  # of each text (T, H)
    labels = [texts[i]["labels"] for i in range(len(texts))]
    device = next(model.parameters()).device
    at_gaps = np.concatenate([h[y != IGNORED] for h, y in zip(hidden, labels, strict=True)])
    truth = np.concatenate([y[y != IGNORED] for y in labels])
    found = []
    for begin in range(0, len(truth), 512):
        part = slice(begin, begin + 512)  # x 30,522 scores: 62 MB
        scores = model.scores(torch.from_numpy(at_gaps[part]).to(device))
        right = scores.gather(1, torch.from_numpy(truth[part, None]).to(device))
        found.append(1 + (scores > right).sum(1))
    return torch.cat(found).cpu().numpy()
