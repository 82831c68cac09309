"""Models that the series trained itself: `data/checkpoints`, in a checkout and in a wheel.

A checkpoint is one file, NAME.safetensors: weights in half precision, and in the file's metadata
what they belong to and how they were made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers.text import Vocabulary

if TYPE_CHECKING:  # the runner reads names and digests without PyTorch, which is slow to import
    from torch import Tensor, nn

SUFFIX = ".safetensors"


class Checkpoint(NamedTuple):
    """What a file holds: float32 weights, the model's sizes, where it comes from, its words."""

    file: Path
    weights: dict[str, Tensor]
    configuration: dict[str, Any]
    about: dict[str, Any]
    vocabulary: Vocabulary | None


@contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Whatever a reader raises on damaged input, as a `ValueError` of one line that says `what`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{what}: {reason[:200]}") from None


def folder() -> Path:
    """Where the series' own checkpoints are; a wheel has them inside the package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_checkpoints"
    return installed if installed.is_dir() else package.parent / "data" / "checkpoints"


def names() -> list[str]:
    """The series' checkpoints."""
    return sorted(file.stem for file in folder().glob(f"*{SUFFIX}"))


def digest(name: str) -> str:
    """SHA-256 of one of `names`."""
    return hashlib.sha256(place(name).read_bytes()).hexdigest()


def place(name: str | Path) -> Path:
    """The file to save to or load from: a plain name is a checkpoint of the series; a name with a
    folder in it is a path of yours. The ending may be left out."""
    path = Path(name).expanduser()
    path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
    return folder() / path if len(path.parts) == 1 else path


def write(name: str | Path, kind: str, weights: Mapping[str, Tensor], configuration: Mapping,
          about: Mapping, vocabulary: Sequence[str] | None = None) -> None:  # fmt: skip
    """Write a checkpoint of a `kind` of model; all but the weights must fit into JSON."""
    from safetensors.torch import save

    file = place(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: tensor.detach().cpu().half().contiguous() for key, tensor in weights.items()}
    facts = {"kind": kind, "configuration": dict(configuration), "about": dict(about)}
    if vocabulary is not None:
        facts["vocabulary"] = list(vocabulary)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(save(halves, {"facts": json.dumps(facts, ensure_ascii=False)}))
    os.replace(part, file)


def read(name: str | Path, kind: str) -> Checkpoint:
    """What `write` wrote. Raises `FileNotFoundError` for a missing file, and `ValueError` for a
    damaged one or another kind of model."""
    from safetensors import safe_open

    file = place(name)
    if not file.is_file():
        there = ", ".join(names()) or "none"
        raise FileNotFoundError(f"There is no checkpoint {file}: the series has {there}, and a run "
                                "with pretrain=True makes the one of its notebook.")  # fmt: skip
    with one_sentence(f"{file} is damaged, restore it"):
        with safe_open(file, "pt") as content:
            facts = json.loads((content.metadata() or {}).get("facts", "{}"))
            weights = {key: content.get_tensor(key).float() for key in content.keys()}  # noqa: SIM118
        vocabulary = Vocabulary(facts["vocabulary"]) if facts.get("vocabulary") else None
        for key, tensor in weights.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{key} holds NaN or infinity")
    if facts.get("kind") != kind:
        raise ValueError(f"{file} describes a model of kind {facts.get('kind')!r}, not {kind!r}")
    configuration, about = facts.get("configuration"), facts.get("about")
    if not isinstance(configuration, dict) or not isinstance(about, dict):
        raise ValueError(f"{file} lacks the configuration or the origin of its model")
    return Checkpoint(file, weights, configuration, about, vocabulary)


def fill(make: Callable[[], nn.Module], weights: Mapping, where: str | Path) -> Any:
    """The module that `make` makes, with these weights, in evaluation mode.

    Raises `ValueError`, a sentence about `where`, if a tensor is missing, one too many, of another
    size, or not of finite numbers; sizes are compared before memory is taken.
    """
    from torch import device

    with device("meta"):
        wanted = make().state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        ours, theirs = wanted.get(name), weights.get(name)
        if theirs is None:
            raise ValueError(f"{where} has no {name}")
        if ours is None:
            raise ValueError(f"{where} has {name}, which this model lacks")
        if ours.shape != theirs.shape:
            sizes = f"{tuple(theirs.shape)}, but should be {tuple(ours.shape)}"
            raise ValueError(f"{where}: {name} is {sizes}")
        if not (theirs.is_floating_point() and theirs.isfinite().all()):
            raise ValueError(f"{where}: {name} holds something other than finite numbers")
    model = make()
    model.load_state_dict(weights)
    return model.eval()
