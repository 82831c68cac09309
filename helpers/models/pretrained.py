"""Pre-trained models in transformers' format: an asset (`minilm`), a folder, or a Hub id. A folder
is data here: no code in it runs, no pickle is opened, no file outside it is read."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from helpers import assets
from helpers.models import converted
from helpers.models.checkpoints import check_finite, one_sentence

HUB_SECONDS = 5  # until the Hub counts as out of reach
SAFE = {"local_files_only": True, "trust_remote_code": False}
INDEX, ADAPTER = "model.safetensors.index.json", "adapter_config.json"
SETTINGS = ("config.json", "tokenizer_config.json", "generation_config.json", ADAPTER, INDEX)


def check_model(name: str) -> None:
    """Raise `ValueError` unless `name` is a model asset, a model's folder or like a Hub id."""
    known = [asset.name for asset in assets.catalogue().values() if asset.kind == "model"]
    folder = Path(name).expanduser()
    if name in known or (folder / "config.json").is_file():
        return
    if name and folder.is_dir():
        raise ValueError(f"The folder {name!r} has no config.json: it holds no transformers model.")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        mend = f"a folder, a Hub id like google-bert/bert-base-uncased, or {' or '.join(known)}"
        near = get_close_matches(name.lower(), known, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"take {mend}."
        raise ValueError(f"No model is called {name!r}: {mend}")


def load_config(name: str) -> Any:
    """The `transformers.PretrainedConfig` of a model. Raises as `load_tokenizer` does."""
    return _open(name)[1]


def load_tokenizer(name: str) -> Any:
    """The tokenizer. `ValueError` for a model refused here, `OSError` for one out of reach."""
    from transformers import AutoTokenizer

    folder, _ = _open(name)
    with one_sentence(f"{name}: transformers cannot read its tokenizer"):
        return AutoTokenizer.from_pretrained(folder, **SAFE)


def load_model(kind: type, name: str, pretrained: bool = True) -> tuple[Any, list[str]]:
    """A model of transformers' class `kind` (float32) and the keys of the heads that `name` lacks;
    `pretrained=False` gives random weights. `ValueError` if the encoder lacks weights."""
    from safetensors import safe_open
    from torch import float32
    from transformers.utils import logging

    folder, config = _open(name)
    if not pretrained:
        return kind.from_config(config, dtype=float32, trust_remote_code=False), []
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise ValueError(f"{name} has no model.safetensors, and pickles are not read: save it with "
                         "save_pretrained.")  # fmt: skip
    for file in files:
        with one_sentence(f"{file} is damaged, fetch it again"), safe_open(file, "pt"):
            pass
    options = {**SAFE, "use_safetensors": True, "output_loading_info": True, "dtype": float32}
    with one_sentence(f"{name}: its weights do not fit its config.json"), ExitStack() as after:
        after.callback(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            after.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()  # what a model lacks is told below
        logging.disable_progress_bar()
        model, info = kind.from_pretrained(folder, **options)
    lacks = sorted(info["missing_keys"])
    if lost := [key for key in lacks if not re.match(r"cls\.|(bert\.)?pooler\.", key)]:
        raise ValueError(f"{name} lacks weights of its encoder: {', '.join(lost[:3])}")
    check_finite(dict(model.named_parameters()), name)
    return model, [key for key in lacks if key.startswith("cls.")]


def load_decoder(name: str) -> tuple[Any, Any]:
    """A decoder with its language-model head (float32, evaluation mode), and its tokenizer."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto import modeling_auto as known

    config = load_config(name)
    kind, both = config.model_type, known.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decoder = getattr(config, "is_decoder", False) or kind not in both
    if not decoder or kind not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(f"{name} is of the kind {kind}, which is no decoder and cannot continue a "
                         "text: take smollm2, or a GPT-2.")  # fmt: skip
    return load_model(AutoModelForCausalLM, name)[0].eval(), load_tokenizer(name)


def _open(name: str) -> tuple[Path, Any]:
    """The checked folder of a model, and its configuration."""
    from transformers import AutoConfig

    check_model(name)
    folder, settings = Path(name).expanduser(), {}
    if name in assets.catalogue():
        folder = converted.folder(name)
    elif not folder.is_dir():
        folder = _from_hub(name)
    for file in SETTINGS:
        with one_sentence(f"{name}: {file} is no JSON object"):
            text = (folder / file).read_text("utf-8") if (folder / file).exists() else "{}"
            settings[file] = dict(**json.loads(text))
    for fault in _foreign(settings, {file.name for file in folder.glob("*.safetensors")}):
        raise ValueError(f"{name} {fault}, which is refused here: take a model that transformers "
                         "has built in, whole in one folder.")  # fmt: skip
    with one_sentence(f"{name}: transformers cannot read config.json"):
        return folder, AutoConfig.from_pretrained(folder, **SAFE)


def _foreign(settings: dict[str, dict], own: set[str]) -> Iterator[str]:
    """What in the settings asks for code, or for weights that are not in the folder's `own`."""
    for file, found in settings.items():
        if '"auto_map":' in json.dumps(found):  # the key, at any depth
            yield f"brings code of its own (auto_map in {file})"
    config, shards = settings["config.json"], settings[INDEX].get("weight_map", {})
    for key in ("_attn_implementation", "attn_implementation", "experts_implementation"):
        if "/" in str(config.get(key)):
            yield f"asks for code from {config[key]} ({key} in config.json)"
    shards = shards.values() if isinstance(shards, dict) else [shards]
    asked = {INDEX: sorted(set(map(str, shards)) - own), ADAPTER: settings[ADAPTER]}
    for file, weights in (asked | {"config.json": config.get("transformers_weights")}).items():
        if weights:
            yield f"in its {file} points to weights elsewhere ({str(weights)[:99]})"


def _from_hub(name: str) -> Path:
    """The folder of a model on the Hub, or of an earlier run if the Hub is out of reach."""
    from huggingface_hub import HfApi, snapshot_download

    files = {"allow_patterns": ["*.json", "*.safetensors", "*.txt", "*.model"]}
    files |= {"ignore_patterns": ["*/*"], "etag_timeout": HUB_SECONDS}
    reason = ""
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)  # says soon that there is no such model
    except Exception as error:  # each library beneath has errors of its own
        reason = str(error).strip().partition("\n")[0]
    try:
        return Path(snapshot_download(name, local_files_only=bool(reason), **files))
    except Exception as error:
        reason = reason or str(error).strip().partition("\n")[0]
        raise OSError(f"{name} is no folder here and cannot be fetched from the Hub ({reason}): "
                      "check the name and the network, or take minilm.") from None  # fmt: skip
