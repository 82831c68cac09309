"""What a trained model says of encoded examples: labels, probabilities, logits or features."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from torch import nn
from tqdm.auto import tqdm

from helpers.models import crf
from helpers.text import Encoded, LengthBatches
from helpers.training.precision import autocast, choose, flush_denormals, plain_accelerator

Outputs = np.ndarray | list[np.ndarray]  # of texts (n, …), or of taggers for each text (T, …)


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    data: Encoded,
    *,
    batch_size: int = 64,
    forward: Callable | None = None,
    precision: str = "auto",
    progress: bool = False,
) -> Outputs:
    """What `model`, or `forward` (e.g. `model.features`), gives in evaluation mode for each row of
    `data`, in its order: `(n, …)` float32, or a list of `(T, classes)` without padding where the
    output has three dimensions. Several processes share the batches; each returns all rows."""
    accelerator = plain_accelerator()
    was_training, device = model.training, next(model.parameters()).device
    batches, found = list(LengthBatches(data.lengths, batch_size)), []
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    mode = choose(precision, device)
    model.eval()
    try:
        with flush_denormals(), autocast(mode, device):  # around all: weights are cast once
            for rows in tqdm(mine, disable=not progress, leave=False):
                batch = send_to_device(data.collate([data[i] for i in rows]), device)
                output = logits_of(call(forward or model, batch))
                found += zip(rows, output.float().cpu().numpy(), strict=True)
    finally:
        model.train(was_training)
    outputs = [output for _, output in sorted(gather_object(found), key=lambda pair: pair[0])]
    if outputs and outputs[0].ndim == 2:
        return [output[:n] for output, n in zip(outputs, data.lengths, strict=True)]
    return np.stack(outputs) if outputs else np.zeros((0, 0), np.float32)


def predict(model: nn.Module, data: Encoded, **options) -> Outputs:
    """The most probable class of each row, `(n,)`; of a tagger a list of `(T,)`, decoded by its CRF
    if it has one. `options` are those of `predict_logits`."""
    logits = predict_logits(model, data, **options)
    return crf.decode(model, logits) if isinstance(logits, list) else logits.argmax(-1)


def predict_proba(model: nn.Module, data: Encoded, **options) -> Outputs:
    """The softmax of the logits, `(n, classes)`; of a tagger a list of `(T, classes)`, the
    marginals of its CRF if it has one. `options` are those of `predict_logits`."""
    logits = predict_logits(model, data, **options)
    if isinstance(logits, list):
        return crf.probabilities(model, logits)
    return torch.as_tensor(logits).softmax(-1).numpy()


def extract_features(model: nn.Module, data: Encoded, **options) -> Outputs:
    """What the model's head sees: `model.features` of each example, `(n, hidden)`."""
    return predict_logits(model, data, forward=model.features, **options)


def call(model: Callable, batch: dict):
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    low = isinstance(output, torch.Tensor) and output.dtype == torch.bfloat16
    return output.float() if low else output  # losses and CRFs compute in float32


def logits_of(output) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.logits
