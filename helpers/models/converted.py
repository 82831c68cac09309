"""Assets that carry a model in another form, as transformers folders in the cache, made once."""

import inspect
from pathlib import Path

from helpers import assets, require


def folder(name: str) -> Path:
    """The transformers folder of a model asset, fetched at need.

    A GGUF file is unpacked into float32 safetensors with the same values; for `smollm2` that takes
    half a minute and 0.5 GB. Raises `ImportError` where the package `gguf` is missing.
    """
    if name == "e5":
        from helpers.models import e5

        return e5.folder()
    source = assets.path(name)
    if not (packed := sorted(file.name for file in source.glob("*.gguf"))):
        return source

    def make(target: Path) -> None:
        require("gguf", "gguf")
        from safetensors.torch import save_file
        from torch import float32
        from transformers import AutoModelForCausalLM, AutoTokenizer

        given = {"gguf_file": packed[0], "local_files_only": True, "trust_remote_code": False}
        model = AutoModelForCausalLM.from_pretrained(source, dtype=float32, **given)
        del model.config.quantization_config  # its weights are plain numbers now
        model.config.save_pretrained(target)
        weights = dict(model.named_parameters())  # tied ones once
        save_file(weights, target / "model.safetensors", {"format": "pt"})
        AutoTokenizer.from_pretrained(source, **given).save_pretrained(target)

    return assets.derived(f"{name}-float32", source.name + inspect.getsource(folder), make)
