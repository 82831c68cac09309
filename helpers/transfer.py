"""What moves and what stays: layer groups, freezing, rates of their own for each group."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def layer_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The model's parameters by depth, from the input up: `embeddings`, `layer 1` …, `head`.

    The layers are the longest `nn.ModuleList` of the encoder (`model.encoder`, or the model
    itself); what holds `embed` in its name lies below them and everything else above. That fits
    the models of this series and transformers' encoders. A model that wants another order has a
    method `layer_groups()` of its own, whose answer is taken as it is.
    """
    if hasattr(model, "layer_groups"):
        return model.layer_groups()
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    stack, layers = max(lists, key=lambda pair: len(pair[1]), default=("", []))
    groups: dict[str, list[nn.Parameter]] = {"embeddings": []}
    groups |= {f"layer {i + 1}": list(layer.parameters()) for i, layer in enumerate(layers)}
    groups["head"] = []
    for name, parameter in model.named_parameters():
        if not (stack and name.startswith(f"{stack}.")):
            groups["embeddings" if "embed" in name else "head"].append(parameter)
    return {name: group for name, group in groups.items() if group}


def freeze_below(model: nn.Module, group: str) -> None:
    """Train `group` and everything above it; keep everything below as it is.

    `freeze_below(model, "head")` is feature extraction, `"embeddings"` is full fine-tuning.
    Raises `ValueError` for a group that the model lacks, naming those it has.
    """
    groups = layer_groups(model)
    if group not in groups:
        raise ValueError(f"no layer group {group!r}: this model has {', '.join(groups)}")
    trainable = False
    for name, parameters in groups.items():
        trainable = trainable or name == group
        for parameter in parameters:
            parameter.requires_grad_(trainable)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a shared one counts once."""
    every = list(model.parameters())
    return sum(p.numel() for p in every if p.requires_grad), sum(p.numel() for p in every)


def parameter_groups(
    model: nn.Module,
    lr: float,
    factor: float = 1.0,
    weight_decay: float = 0.01,
    rates: Mapping[str, float] | None = None,
) -> list[dict]:
    """Groups for `training.fit`: the head learns at `lr`, each group below at `1 / factor` of the
    rate above it (2.6 in Howard & Ruder 2018, section 3.2); `rates` sets single groups' rates.

    Biases and normalisation weights (one-dimensional parameters) are not decayed.
    """
    named, groups = layer_groups(model), []
    unknown = set(rates or {}) - set(named)
    if unknown:
        raise ValueError(f"no layer group {', '.join(unknown)}: this model has {', '.join(named)}")
    for depth, (name, parameters) in enumerate(reversed(named.items())):
        rate = (rates or {}).get(name, lr / factor**depth)
        kept = [p for p in parameters if p.requires_grad]
        for decay, part in (
            (weight_decay, [p for p in kept if p.ndim > 1]),
            (0.0, [p for p in kept if p.ndim <= 1]),
        ):
            if part:
                groups.append({"params": part, "lr": rate, "weight_decay": decay, "name": name})
    return groups
