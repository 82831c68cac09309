"""Pre-trained models in transformers' format: an asset (`minilm`), a folder, or a Hub id.

A folder is data here: no code in it runs, no pickle is opened, no file outside it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from helpers import assets
from helpers.models.checkpoints import one_sentence

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
HUB_SECONDS = 5  # until the Hub counts as out of reach
SAFE = {"local_files_only": True, "trust_remote_code": False}
INDEX = "model.safetensors.index.json"


def check_model(name: str) -> None:
    """Raise `ValueError` unless `name` is a model asset, a model's folder or like a Hub id.

    It opens no file and asks no network: a cheap first check of a parameter.
    """
    known = [asset.name for asset in assets.catalogue().values() if asset.kind == "model"]
    folder = Path(name).expanduser()
    if name in known or (folder / "config.json").is_file():
        return
    if name and folder.is_dir():
        raise ValueError(f"The folder {name!r} has no config.json: it holds no transformers model.")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return
    near = get_close_matches(name.lower(), known, 1)
    mend = "take a folder, a Hub id like google-bert/bert-base-uncased, or " + " or ".join(known)
    mend = f"did you mean {near[0]!r}?" if near else f"{mend}."
    raise ValueError(f"No model is called {name!r}: {mend}")


def model_folder(name: str) -> Path:
    """The folder of a model, fetched at need and checked.

    Raises `ValueError` for a wrong name or a folder that wants code run or weights from elsewhere,
    `OSError` for a Hub id that cannot be fetched.
    """
    check_model(name)
    folder = Path(name).expanduser()
    if name in assets.catalogue():
        folder = assets.path(name)
    elif not folder.is_dir():
        folder = _from_hub(name)
    for file in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if _has_key(_read_json(folder / file, name), "auto_map"):
            raise ValueError(f"{name} brings code of its own (auto_map in {file}), which is never "
                             "run here: take a model that transformers has built in.")  # fmt: skip
    config = _read_json(folder / "config.json", name)
    for key in ("_attn_implementation", "attn_implementation", "experts_implementation"):
        if "/" in str(config.get(key)):
            raise ValueError(f"{name} asks for code from {config[key]} (config.json, {key}), which "
                             f"is never run here: remove {key}.")  # fmt: skip
    shards = _read_json(folder / INDEX, name).get("weight_map", {})
    shards = shards.values() if isinstance(shards, dict) else [shards]
    foreign = {INDEX: [s for s in map(str, shards) if not _is_shard(folder, s)]}
    foreign["config.json"] = [config[key] for key in ("transformers_weights",) if config.get(key)]
    foreign["adapter_config.json"] = list(_read_json(folder / "adapter_config.json", name).items())
    for file, found in foreign.items():
        if found:
            raise ValueError(f"{name}: {file} points to weights ({found[0]!r}) other than the "
                             ".safetensors in the folder: save the whole model there.")  # fmt: skip
    return folder


def load_config(name: str) -> Any:
    """The `transformers.PretrainedConfig` of a model. Raises as `model_folder` does."""
    return _config(model_folder(name), name)


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model. Raises as `model_folder` does."""
    from transformers import AutoTokenizer

    folder = model_folder(name)
    _config(folder, name)
    with one_sentence(f"{name}: transformers cannot read its tokenizer"):
        return AutoTokenizer.from_pretrained(folder, **SAFE)


def load_model(kind: type, name: str) -> tuple[Any, list[str]]:
    """A model of transformers' class `kind` (float32) and the keys of the heads that `name` lacks.

    Raises as `model_folder`, and `ValueError` if the encoder lacks weights (a pooler may lack) or
    any are damaged.
    """
    from safetensors import safe_open
    from torch import float32

    folder = model_folder(name)
    _config(folder, name)
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise ValueError(f"{name} has no model.safetensors, and pickles are not read: save it with "
                         "save_pretrained.")  # fmt: skip
    for file in files:
        with one_sentence(f"{file} is damaged, fetch it again"), safe_open(file, "pt"):
            pass
    options = {**SAFE, "use_safetensors": True, "output_loading_info": True, "dtype": float32}
    with quiet(), one_sentence(f"{name}: its weights do not fit its config.json"):
        model, info = kind.from_pretrained(folder, **options)
    lacks = sorted(info["missing_keys"])
    if lost := [key for key in lacks if not re.match(r"cls\.|(bert\.)?pooler\.", key)]:
        raise ValueError(f"{name} lacks weights of its encoder: {', '.join(lost[:3])}")
    for key, weight in model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(f"{name}: {key} in its weights holds NaN or infinity")
    return model, [key for key in lacks if key.startswith("cls.")]


def _config(folder: Path, name: str) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = _read_json(folder / "config.json", name).get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(f"{name}: transformers knows no model_type {kind!r} (config.json).")
    with one_sentence(f"{name}: transformers cannot read config.json"):
        return AutoConfig.from_pretrained(folder, **SAFE)


def _from_hub(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)  # says soon that there is no such model
        files = {"allow_patterns": HUB_FILES, "ignore_patterns": ["*/*"]}
        return Path(snapshot_download(name, etag_timeout=HUB_SECONDS, **files))
    except Exception as error:  # each library beneath has errors of its own
        reason = str(error).strip().partition("\n")[0]
    try:
        return Path(snapshot_download(name, local_files_only=True))  # of an earlier run
    except Exception:
        raise OSError(f"{name} is no folder here and cannot be fetched from the Hub ({reason}): "
                      "check the name and the network, or take minilm.") from None  # fmt: skip


def _read_json(file: Path, name: str) -> dict:
    """What is in a file of settings; nothing if it is not there."""
    with one_sentence(f"{name}: {file.name} is no JSON object"):
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return dict(found.items())


def _has_key(tree: Any, key: str) -> bool:
    if isinstance(tree, dict):
        return key in tree or any(_has_key(part, key) for part in tree.values())
    return isinstance(tree, list) and any(_has_key(part, key) for part in tree)


def _is_shard(folder: Path, shard: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+\.safetensors", shard)) and (folder / shard).is_file()


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bar and warnings: the loaders tell what a model lacks."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
