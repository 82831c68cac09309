"""Training and prediction, language models, transfer, and the schemes built of them."""

from importlib import import_module

_CONTENTS = {
    "language_models": "LanguageFit fit_language_model perplexity",
    "loop": "Fit IGNORED constant cross_entropy fit linear measure",
    "prediction": "extract_features predict predict_logits predict_proba",
    "schemes": "Task init mult train_single_task",
    "transfer": "count_parameters freeze_below gradual_unfreezing layer_groups parameter_groups "
    "slanted_triangular",
}
_PARTS = {name: part for part, names in _CONTENTS.items() for name in names.split()}
__all__ = list(_PARTS)


def __getattr__(name: str):
    if name in _PARTS:  # a part costs only what it needs (PEP 562)
        return getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
