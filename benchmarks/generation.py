"""Tokens that a decoder writes a second: our GPT with its cache, without, and as transformers' own
GPT-2 with the same weights; and SmolLM2."""

from functools import partial

import torch
from timing import figure, interleaved, ratios, seconds
from transformers import GPT2Config, GPT2LMHeadModel

from helpers.models import GPT, load_decoder

NOTE = "Prompts of a few tokens, the likeliest token each time, float32."
CASES = (("one text, one thread", 1, 1), ("one text", 1, 0), ("eight texts", 8, 0))


@torch.no_grad()
def generation(pairs: int, n_tokens: int = 256, model_name: str = "smollm2") -> list[dict]:
    """What the cache brings, our speed over transformers' and that of a larger model."""
    ours, tokenizer, _ = GPT.from_checkpoint("gpt")
    prompt = tokenizer("<|endoftext|>The film is", return_tensors="pt")["input_ids"]
    found = []
    for case, n_texts, threads in CASES:  # a token of one text has little for a second thread
        write = partial(ours.generate, prompt.repeat(n_texts, 1), max_new_tokens=n_tokens)
        sides = {"with": write, "without": partial(write, use_cache=False)}
        speed = measured(sides, n_texts * n_tokens, pairs, threads)
        what = f"tokens a second, {n_tokens} behind a prompt ({case}): our GPT with its cache, over"
        key = f"generation_cache_{case.replace(',', '').replace(' ', '_')}"
        found.append(figure(key, f"{what} without", ">= 5", ratios(*speed.values()), speed,
                            "tokens/s", NOTE))  # fmt: skip
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    sizes = {name: getattr(ours.config, name) for name in names}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    theirs.load_state_dict(ours.state_dict())
    larger, its = load_decoder(model_name)
    how = {"do_sample": False, "max_new_tokens": n_tokens, "min_new_tokens": n_tokens}
    sides = {
        "helpers": partial(ours.generate, prompt, max_new_tokens=n_tokens),
        "transformers": lambda: theirs.generate(prompt, eos_token_id=None, **how),
        model_name: lambda: larger.generate(**its("The film is", return_tensors="pt"),
                                            pad_token_id=0, **how),
    }  # fmt: skip
    speed = measured(sides, n_tokens, pairs)
    alone = {model_name: speed.pop(model_name)}
    what = f"tokens a second, {n_tokens} behind a prompt: our GPT with its cache, over transformers"
    told = f"tokens a second that {model_name} writes, by transformers' generate"
    return [*found, figure("generation_generate", what, ">= 0.9", ratios(*speed.values()), speed,
                           "tokens/s", NOTE),
            figure("generation_larger", told, ">= 0", *alone.values(), alone, "tokens/s",
                   NOTE)]  # fmt: skip


def measured(sides: dict, n_tokens: int, pairs: int, threads: int = 0) -> dict[str, list[float]]:
    """Tokens a second of each side in turns, after a first run; `threads` 0: as many as now."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for run in sides.values():
            run()
        timed = {name: lambda run=run: n_tokens / seconds(run) for name, run in sides.items()}
        return interleaved(timed, pairs)
    finally:
        torch.set_num_threads(before)
