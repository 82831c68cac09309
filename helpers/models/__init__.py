"""Models, each in one file that can be read in one sitting."""

from helpers import lazily

_contents = {
    "awd_lstm": "AWDLSTMConfig Classifier LanguageModel",
    "bert": "Bert",
    "crf": "CRF",
    "elmo": "BidirectionalLM Elmo ElmoConfig ScalarMix",
    "encoder": "EncoderClassifier encode_texts",
    "gpt": "GPT GPTConfig",
    "masked_head": "MaskedLM",
    "pretrained": "check_model load_decoder load_tokenizer",
    "tagger": "BiLSTMTagger EncoderTagger",
    "text_cnn": "TextCNN",
}
__getattr__, __dir__, __all__ = lazily(__name__, _contents)
