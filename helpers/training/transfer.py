"""What moves and what stays: layer groups, freezing, learning rates, gradual unfreezing."""

import math
from collections.abc import Callable, Mapping

from torch import nn


def layer_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters from the input up: `embeddings` (of an `nn.Embedding`, or named `…embed…`),
    `layer 1` … (of the longest `nn.ModuleList`), `head` (others, and what stands beside a
    transformers encoder `model.encoder`). A model may have a method `layer_groups()` of its own."""
    if hasattr(model, "layer_groups"):
        return model.layer_groups()
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    stack, layers = max(lists, key=lambda pair: len(pair[1]), default=("", []))
    groups = {f"layer {i + 1}": list(layer.parameters()) for i, layer in enumerate(layers)}
    groups = {"embeddings": [], **groups, "head": []}
    inner = getattr(model, "encoder", model)
    body = inner if hasattr(inner, "get_input_embeddings") else model
    inside = {id(p) for p in body.parameters()}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if not (stack and name.startswith(f"{stack}.")):
            below = "embed" in name or id(parameter) in tables  # GPT-2 calls its tables wte and wpe
            groups["embeddings" if below and id(parameter) in inside else "head"].append(parameter)
    return {name: group for name, group in groups.items() if group}


def _groups_with(model: nn.Module, *names: str) -> dict[str, list[nn.Parameter]]:
    groups = layer_groups(model)
    if unknown := [name for name in names if name not in groups]:
        raise ValueError(f"no layer group {unknown[0]!r}: this model has {', '.join(groups)}")
    return groups


def freeze_below(model: nn.Module, group: str) -> None:
    """Train `group` and all above it: "head" is feature extraction, "embeddings" fine-tunes all."""
    trainable = False
    for name, parameters in _groups_with(model, group).items():
        trainable = trainable or name == group
        for parameter in parameters:
            parameter.requires_grad_(trainable)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a shared one counts once."""
    every = list(model.parameters())
    return sum(p.numel() for p in every if p.requires_grad), sum(p.numel() for p in every)


def parameter_groups(model: nn.Module, lr: float, factor: float = 1.0, weight_decay: float = 0.01,
                     lrs: Mapping = {}) -> list[dict]:  # fmt: skip
    """Parameter groups for `training.fit`: the head's learning rate is `lr`, that of each group
    below is `1 / factor` of the one above it (2.6 in Howard & Ruder 2018, section 3.2). `lrs` sets
    those of single groups. Biases and normalisation weights (one-dimensional) do not decay."""
    groups = []
    for depth, (name, parameters) in enumerate(reversed(_groups_with(model, *lrs).items())):
        for matrices in (True, False):
            part = [p for p in parameters if p.requires_grad and (p.ndim > 1) == matrices]
            if part:
                groups.append({"params": part, "lr": lrs.get(name, lr / factor**depth),
                    "weight_decay": weight_decay if matrices else 0.0, "name": name})  # fmt: skip
    return groups


def slanted_triangular(cut_frac: float = 0.1, ratio: float = 32) -> Callable[[int, int], float]:
    """A schedule for `training.fit` (Howard & Ruder 2018, section 3.2): the learning-rate share
    rises from `1 / ratio` to 1 in the first `cut_frac` of the steps, and falls back in the rest.
    Of less than a hundred steps the fall may end early, or be cut off, as in the paper."""

    def share(step: int, total: int) -> float:
        cut = max(1, math.floor(total * cut_frac + 1e-9))  # 0.29 * 100 is 28.999…
        rising, falling = step / cut, 1 - (step - cut) / (cut * (1 / cut_frac - 1))
        p = rising if step < cut else max(0.0, falling)  # rounding may leave steps over
        return (1 + p * (ratio - 1)) / ratio

    return share


def gradual_unfreezing(model: nn.Module) -> Callable[[nn.Module, int], None]:
    """A callback for `fit`: the head learns first, and one more layer group below it from each
    epoch on (Howard & Ruder 2018, section 3.3). What is frozen when it is made stays so. For one
    process only: with several, PyTorch waits for gradients that never come."""
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}

    def callback(model: nn.Module, epoch: int) -> None:
        due = {id(p) for name, p in model.named_parameters() if name in trainable}
        groups = [[p for p in g if id(p) in due] for g in layer_groups(model).values()]
        for depth, group in enumerate(reversed([group for group in groups if group])):
            for parameter in group:
                parameter.requires_grad_(depth <= epoch)
                if not parameter.requires_grad:
                    parameter.grad = None  # or the optimizer would still move it

    return callback
