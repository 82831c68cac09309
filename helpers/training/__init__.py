"""Training and prediction, language models, transfer, and the schemes built of them."""

from helpers import lazily

_contents = {
    "language_models": "LanguageFit fit_language_model perplexity",
    "loop": "Fit IGNORED constant cross_entropy extract_features fit linear measure predict "
    "predict_logits predict_proba",
    "schemes": "Task init mult train_single_task",
    "transfer": "count_parameters freeze_below gradual_unfreezing layer_groups parameter_groups "
    "slanted_triangular",
}
__getattr__, __dir__, __all__ = lazily(__name__, _contents)
