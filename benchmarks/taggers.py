"""Sentences tagged a second: words in, tags out, encoding and Viterbi decoding included."""

import numpy as np
import torch
from timing import figure, seconds

from helpers import data, training
from helpers.models.crf import CRF, bio_constraints, decode
from helpers.models.encoder import load_tokenizer
from helpers.models.tagger import BiLSTMTagger, EncoderTagger, encode_words
from helpers.text import Encoded, Vocabulary, vectors
from helpers.text.subwords import align_subwords, words_from_subwords

MODEL, GLOVE = "minilm", "glove-50d"


def tagging(repeats: int, n: int) -> list[dict]:
    """The two taggers of notebook 10 that do most for a sentence, on `n` test sentences.

    Their heads are untrained: neither network nor Viterbi takes longer or shorter for that.
    """
    splits, glove = data.load("conll2003", quiet=True), vectors.load(GLOVE)
    names, sentences = data.label_names(splits), splits["test"]["tokens"][:n]
    words = sorted({word.lower() for tokens in splits["train"]["tokens"] for word in tokens})
    vocabulary = Vocabulary.build([[word for word in words if word in glove]])
    characters = Vocabulary.build(map(list, words))
    matrix, _ = vectors.embedding_matrix(vocabulary, glove, seed=0)
    looks = {"characters": len(characters), "shapes": True}
    torch.manual_seed(0)
    models = {
        "BiLSTM-CNN-CRF": BiLSTMTagger(matrix, len(names), crf=_field(names), **looks),
        "MiniLM + spelling + CRF": EncoderTagger(MODEL, len(names), crf=_field(names), **looks),
    }
    tokenizer = load_tokenizer(MODEL)

    def tag(model) -> None:
        rows = encode_words(sentences, vocabulary, characters)
        if isinstance(model, BiLSTMTagger):
            scores = training.predict_logits(model, Encoded(rows))
        else:
            pieces = align_subwords(tokenizer, sentences, features=[row[:, 1:] for row in rows])
            found = training.predict_logits(model, pieces.encoded)
            scores = words_from_subwords(pieces, found, names.index("O"))
        if [*map(len, decode(model, scores))] != [*map(len, sentences)]:
            raise RuntimeError("a word has no tag")

    mean = np.mean([*map(len, sentences)])
    figures = []
    for name, model in models.items():
        tag(model)  # the first call of a process is slower
        rates = [n / seconds(lambda model=model: tag(model)) for _ in range(repeats)]
        key = "tagging_" + name.split()[0].lower().replace("-", "_")
        what = f"sentences tagged a second: {name}"
        note = f"{n:,} test sentences of CoNLL-2003 ({mean:.1f} words on average)."
        figures.append(figure(key, what, ">= 100", rates, note=note))
    return figures


def _field(names: list[str]) -> CRF:
    return CRF(len(names), bio_constraints(names))
