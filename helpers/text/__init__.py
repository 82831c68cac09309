"""Words, subwords, vocabularies, batches and word vectors."""

from helpers import lazily

_contents = {
    "ngrams": "KneserNey",
    "tokens": "PAD UNKNOWN Vocabulary digest normal tokenize",
    "batching": "IGNORED Encoded LengthBatches EpochParts",
}
__getattr__, __dir__, __all__ = lazily(__name__, _contents)
