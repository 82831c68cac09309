"""Models, each in one file that can be read in one sitting."""

from importlib import import_module

_CONTENTS = {
    "awd_lstm": "AWDLSTMConfig Classifier LanguageModel",
    "bert": "Bert",
    "crf": "CRF",
    "elmo": "BidirectionalLM Elmo ElmoConfig ScalarMix",
    "encoder": "EncoderClassifier encode_texts",
    "masked_head": "MaskedLM",
    "pretrained": "check_model load_tokenizer",
    "tagger": "BiLSTMTagger EncoderTagger",
    "text_cnn": "TextCNN",
}
_PARTS = {name: part for part, names in _CONTENTS.items() for name in names.split()}
__all__ = list(_PARTS)


def __getattr__(name: str):
    """Import what is asked for, so that a part costs only what it needs (PEP 562)."""
    if name in _PARTS:
        return getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
