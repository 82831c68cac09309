"""The series' own trained models, in `data/checkpoints`: each a NAME.safetensors of weights in half
precision, and in its metadata what they belong to and how they were made; beside a GPT's lies its
tokenizer."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers.text import Vocabulary


@contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Whatever a reader raises on damaged input, as a `ValueError` of one line that says `what`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        reason = reason.strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{what}: {reason[:200]}") from None


def folder() -> Path:
    """Where the series' own checkpoints are; a wheel has them inside the package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_checkpoints"
    return installed if installed.is_dir() else package.parent / "data" / "checkpoints"


def names() -> list[str]:
    """The series' checkpoints."""
    return sorted(file.stem for file in folder().glob("*.safetensors"))


def digest(name: str) -> str:
    """SHA-256 of one of `names`."""
    return hashlib.sha256(place(name).read_bytes()).hexdigest()


def place(name: str | Path) -> Path:
    """The file of a plain name (in the series' folder) or a path; the ending may be left out."""
    path = Path(name).expanduser()
    path = path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")
    return path if os.path.dirname(name) else folder() / path


def write(name: str | Path, kind: str, weights: Mapping, configuration: Mapping, about: Mapping,
          vocabulary: Sequence[str] | None = None) -> None:  # fmt: skip
    """Write a checkpoint of a `kind` of model; all but the weights must fit into JSON."""
    from safetensors.torch import save

    file = place(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: tensor.detach().cpu().half().contiguous() for key, tensor in weights.items()}
    facts = {"kind": kind, "configuration": dict(configuration), "about": dict(about)}
    facts |= {} if vocabulary is None else {"vocabulary": list(vocabulary)}
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(save(halves, {"facts": json.dumps(facts, ensure_ascii=False)}))
    os.replace(part, file)


def read(name: str | Path, kind: str, config: Callable = dict) -> SimpleNamespace:
    """What `write` wrote: `file`, float32 `weights`, `configuration` as a `config`, `about` and
    `vocabulary` or None. `ValueError` for damage, another kind, or what `config` refuses."""
    from safetensors import safe_open

    if not (file := place(name)).is_file():
        there = ", ".join(names()) or "none"
        raise FileNotFoundError(f"There is no checkpoint {file}: the series has {there}, and a run "
                                "with pretrain=True makes the one of its notebook.")  # fmt: skip
    with one_sentence(f"{file} is damaged, restore it"), safe_open(file, "pt") as content:
        facts = dict(**json.loads((content.metadata() or {})["facts"]))
        weights = {key: content.get_tensor(key).float() for key in content.keys()}  # noqa: SIM118
        check_finite(weights, "its weights")
    if (other := facts.get("kind")) != kind:
        raise ValueError(f"{file} describes a model of kind {other!r}, not {kind!r}")
    with one_sentence(f"{file} does not describe a model of kind {kind!r}"):
        sizes, about = config(**facts["configuration"]), dict(**facts["about"])
        words = Vocabulary(facts["vocabulary"]) if facts.get("vocabulary") else None
    found = {"file": file, "weights": weights, "configuration": sizes}
    return SimpleNamespace(**found, about=about, vocabulary=words)


def check_finite(weights: Mapping, where: str | Path) -> None:
    """Raise `ValueError`, a sentence about `where`, unless all are tensors of finite numbers."""
    for name, tensor in weights.items():
        if not (tensor.is_floating_point() and tensor.isfinite().all()):
            raise ValueError(f"{where}: {name} holds something other than finite numbers")


def fill(make: Callable[[], Any], weights: Mapping, where: str | Path) -> Any:
    """The module of `make()` with these weights, in evaluation mode. Raises as `check_finite`, and
    if a tensor is missing, too many, or of another size, compared before memory is taken."""
    from torch import device

    with one_sentence(f"{where}: its sizes make no model"), device("meta"):
        wanted = {name: tuple(ours.shape) for name, ours in make().state_dict().items()}
    given = {name: tuple(theirs.shape) for name, theirs in weights.items()}
    for name in sorted(wanted.keys() | given.keys()):
        found, due = given.get(name, "missing"), wanted.get(name, "left out")
        if found != due:
            raise ValueError(f"{where}: {name} is {found}, but should be {due}")
    check_finite(weights, where)
    model = make()
    model.load_state_dict(weights)
    return model.eval()
