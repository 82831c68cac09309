"""Training and prediction, transfer, and the schemes built of them."""

from helpers.training.loop import (
    Fit,
    constant,
    cross_entropy,
    extract_features,
    fit,
    linear,
    measure,
    predict,
    predict_logits,
    predict_proba,
)

__all__ = [
    "Fit",
    "constant",
    "cross_entropy",
    "extract_features",
    "fit",
    "linear",
    "measure",
    "predict",
    "predict_logits",
    "predict_proba",
]
