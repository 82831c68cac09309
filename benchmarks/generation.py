"""Tokens that a decoder writes a second: our GPT with its cache, without, and as transformers' own
GPT-2 with the same weights; and SmolLM2."""

from functools import partial

import torch
from timing import figure, interleaved, ratios, seconds
from transformers import GPT2Config, GPT2LMHeadModel

from helpers.models import GPT, load_decoder

NOTE = "One prompt of a few tokens, the likeliest token each time, float32."


@torch.no_grad()
def generation(pairs: int, n_tokens: int = 256, model_name: str = "smollm2") -> list[dict]:
    """Both ratios, and the speed of a larger model."""
    ours, tokenizer, _ = GPT.from_checkpoint("gpt")
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    sizes = {name: getattr(ours.config, name) for name in names}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    theirs.load_state_dict(ours.state_dict())
    prompt = tokenizer("<|endoftext|>The film is", return_tensors="pt")["input_ids"]
    how = {"do_sample": False, "max_new_tokens": n_tokens, "min_new_tokens": n_tokens}
    larger, its = load_decoder(model_name)
    its_prompt = its("The film is", return_tensors="pt")
    write = partial(ours.generate, prompt, max_new_tokens=n_tokens)
    sides = {
        "helpers": write,
        "without the cache": partial(write, use_cache=False),
        "transformers": lambda: theirs.generate(prompt, eos_token_id=None, **how),
        model_name: lambda: larger.generate(**its_prompt, pad_token_id=0, **how),
    }
    for run in sides.values():
        run()
    timed = {name: lambda run=run: n_tokens / seconds(run) for name, run in sides.items()}
    speed = interleaved(timed, pairs)
    found = []
    for name, other, bar in (("cache", "without the cache", 5), ("generate", "transformers", 0.9)):
        both = {side: speed[side] for side in ("helpers", other)}
        what = f"tokens a second, {n_tokens} behind a prompt: our GPT with its cache, over {other}"
        found.append(figure(f"generation_{name}", what, f">= {bar}", ratios(*both.values()), both,
                            "tokens/s", NOTE))  # fmt: skip
    what = f"tokens a second that {model_name} writes, by transformers' generate"
    told = {model_name: speed[model_name]}
    return [*found, figure("generation_larger", what, ">= 0", speed[model_name], told, "tokens/s",
                           NOTE)]  # fmt: skip
