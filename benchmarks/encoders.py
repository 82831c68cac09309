"""A pre-trained encoder: fine-tuned against transformers' Trainer, frozen against
sentence-transformers. The same model, texts, batch size, cut and number of threads for both; in
float32, and in bfloat16 where the processor has it."""

import tempfile
from collections.abc import Callable

import numpy as np
import torch
from timing import figure, interleaved, ratios, seconds
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainingArguments

from helpers import data, evaluation, training
from helpers.models.encoder import EncoderClassifier, encode_texts, load_tokenizer
from helpers.text import Encoded
from helpers.training import transfer
from helpers.training.precision import has_bf16

MODEL, BATCH, EPOCHS, LR, CUT = "minilm", 32, 2, 1e-4, 128
SETTINGS = (
    f"MiniLM (22.7 M parameters) with mean pooling and a linear head on movie reviews, {EPOCHS} "
    f"epochs, batch size {BATCH}, at most {CUT} subword tokens, padded to the longest text of the "
    f"batch, learning rate {LR:g} falling linearly. "
)
TRAINER = (
    "Trainer has its defaults otherwise: fused AdamW, no weight decay, gradient norm clipped at 1, "
    "no evaluation; its checkpoints, logs and progress bar are switched off, as are fit's."
)
RECIPE = (
    "The Trainer draws its batches at random and trains all parameters; the recipe of the series "
    "has length-bucketed batches and frozen embeddings. "
)
NATIVE = has_bf16(torch.device("cpu"))


def classifier(seed: int) -> EncoderClassifier:
    torch.manual_seed(seed)
    return EncoderClassifier(MODEL, n_classes=2)


def by_trainer(model, train, seed: int, precision: str) -> float:
    """Seconds that transformers' Trainer takes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            learning_rate=LR,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=precision == "bf16",
            dataloader_pin_memory=False,
            logging_strategy="no",
            remove_unused_columns=False,  # so that the labels reach the loss
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            data_collator=train.collate,
            compute_loss_func=lambda logits, labels, **_: F.cross_entropy(logits, labels),
        )
        trainer.remove_callback(PrinterCallback)
        return seconds(trainer.train)


def by_fit(model, train: Encoded, seed: int, precision: str, recipe: bool = True) -> float:
    """Seconds that `training.fit` takes: with the recipe of the series, or as the Trainer does it,
    random batches and all parameters."""
    if recipe:
        transfer.freeze_below(model, "layer 1")
    else:
        train = Encoded(train.ids, train.labels)
        train.lengths = np.ones(len(train), int)  # no text is longer: the batches are random
    options = {
        "lr": LR,
        "precision": precision,
        "schedule": training.linear(warmup=0),
        "weight_decay": 0.0,
    }
    options |= {"epochs": EPOCHS, "batch_size": BATCH, "seed": seed, "progress": False}
    return seconds(lambda: training.fit(model, train, **options))


def like_for_like(*run) -> float:
    return by_fit(*run, recipe=False)


RUNS = {  # name: (how, precision)
    "Trainer, float32": (by_trainer, "float32"),
    "fit, float32": (like_for_like, "float32"),
    "recipe, float32": (by_fit, "float32"),
}
COMPARED = [  # key, ours, theirs, the bar, what it does
    ("like_for_like", "fit, float32", "Trainer, float32", ">= 0.98",
     "Both draw their batches at random and train all parameters; the loop alone differs. "),
    ("recipe", "recipe, float32", "Trainer, float32", ">= 1.7", RECIPE),
]  # fmt: skip
if NATIVE:  # without it no side is faster in bf16, and "auto" takes float32
    RUNS |= {"Trainer, bf16": (by_trainer, "bf16"), "recipe, auto": (by_fit, "auto")}
    COMPARED += [
        ("auto", "recipe, auto", "Trainer, float32", ">= 2.4", RECIPE),
        ("auto_bf16", "recipe, auto", "Trainer, bf16", ">= 1.7", RECIPE),
    ]


def fine_tuning(pairs: int, n_train: int, n_test: int) -> list[dict]:
    """Training throughput and test accuracy against transformers' Trainer, one seed a pair."""
    splits, tokenizer = data.load("movie_reviews", quiet=True), load_tokenizer(MODEL)
    chosen = data.subset(splits["train"], n_train, seed=0)
    train = encode_texts(tokenizer, chosen["text"], chosen["label"], CUT)
    rows = splits["test"].select(range(min(n_test, len(splits["test"]))))
    test = encode_texts(tokenizer, rows["text"], rows["label"], CUT)
    predictions = {name: [] for name in RUNS}

    def side(name: str) -> float:
        seed, (how, precision) = len(predictions[name]), RUNS[name]
        model = classifier(seed)
        spent = how(model, train, seed, precision)
        predictions[name].append(training.predict(model, test))
        return EPOCHS * len(train) / spent

    for how, precision in RUNS.values():  # the first steps of a process are slower
        how(classifier(seed=0), Encoded(train.ids[:BATCH], train.labels[:BATCH]), 0, precision)
    rates = interleaved({name: lambda name=name: side(name) for name in RUNS}, pairs)
    figures = []
    for key, ours, theirs, bar, note in COMPARED:
        what = f"fine-tuning, examples a second: {ours}, over {theirs}"
        sides, note = {name: rates[name] for name in (ours, theirs)}, SETTINGS + note + TRAINER
        found = figure(
            f"fine_tuning_{key}", what, bar, ratios(*sides.values()), sides, "examples/s", note
        )
        found["gflops"] = {
            name: work(train) * float(np.median(n)) / 1e9 for name, n in sides.items()
        }
        figures += [found, accuracy(key, test.labels, ours, theirs, predictions)]
    return figures


def work(train: Encoded) -> float:
    """Floating-point operations that the products of the layers' weights need for a training
    example: 6 for each weight and token, padding not counted."""
    weights = sum(p.numel() for p in classifier(0).encoder.encoder.parameters() if p.ndim > 1)
    return 6.0 * weights * float(train.lengths.mean())


def accuracy(key: str, labels, ours: str, theirs: str, predictions: dict) -> dict:
    """How many points of accuracy our side is above the other, with a paired interval."""
    both = {name: np.stack(predictions[name]) for name in (ours, theirs)}
    hits = {name: 100 * (found == labels).mean(1) for name, found in both.items()}
    found = figure(
        f"accuracy_{key}",
        f"test accuracy after the same epochs, points: {ours}, above {theirs}",
        ">= -1",
        (hits[ours] - hits[theirs]).tolist(),
        {name: [float(hit.mean())] for name, hit in hits.items()},
        "% of the test set",
        f"Mean over {len(both[ours])} seeds on {len(labels):,} test texts; the range is the paired "
        "95 % bootstrap interval over texts and seeds.",
    )
    gap = evaluation.difference(labels, predictions[ours], predictions[theirs])
    value, low, high = (100 * number for number in gap)
    return found | {"value": value, "low": low, "high": high, "met": value >= -1}


def frozen_encoding(pairs: int, n_texts: int) -> list[dict]:
    """Sentence vectors a second, tokenisation included, over sentence-transformers, each in the
    same precision; theirs has all its weights in bfloat16 then, which is its fastest."""
    from sentence_transformers import SentenceTransformer

    from helpers import assets

    texts = data.load("movie_reviews", quiet=True)["train"][:n_texts]["text"]
    models = {"float32": SentenceTransformer(str(assets.path(MODEL)), device="cpu")}
    if NATIVE:
        models["bf16"] = SentenceTransformer(str(assets.path(MODEL)), device="cpu").bfloat16()
    cut, tokenizer, ours = models["float32"].max_seq_length, load_tokenizer(MODEL), classifier(0)
    vectors = {}

    def encode(precision: str) -> None:
        encoded = encode_texts(tokenizer, texts, max_length=cut)
        options = {"batch_size": BATCH, "precision": precision}
        found = training.extract_features(ours, encoded, **options)
        vectors[f"helpers, {precision}"] = found / np.linalg.norm(found, axis=1, keepdims=True)

    def reference(precision: str) -> None:
        options = {"batch_size": BATCH, "show_progress_bar": False}
        name = f"sentence-transformers, {precision}"
        vectors[name] = models[precision].encode(texts, **options).astype(np.float32)

    sides: dict[str, Callable] = {}
    for precision in models:
        sides[f"helpers, {precision}"] = lambda p=precision: encode(p)
        sides[f"sentence-transformers, {precision}"] = lambda p=precision: reference(p)
    for run in sides.values():
        run()
    times = interleaved({name: lambda w=run: seconds(w) for name, run in sides.items()}, pairs)
    note = (f"MiniLM, {n_texts:,} movie reviews, batch size {BATCH}, at most {cut} subword tokens, "
            "tokenisation and normalisation included.")  # fmt: skip
    figures, exact = [], vectors["sentence-transformers, float32"]
    for precision, limit in zip(models, ("0.0001", "0.02"), strict=False):
        both = [f"helpers, {precision}", f"sentence-transformers, {precision}"]
        rates = {name: [n_texts / spent for spent in times[name]] for name in both}
        key = "frozen_encoding" if precision == "float32" else f"frozen_encoding_{precision}"
        what = f"frozen encoding in {precision}, texts a second, over sentence-transformers"
        speed = ratios(*rates.values())
        figures.append(figure(key, what, ">= 1.0", speed, rates, "texts/s", note))
        apart = float(np.abs(vectors[both[0]] - exact).max())
        what = (f"largest difference of a component of the normalised vectors in {precision} "
                "from those of sentence-transformers in float32")  # fmt: skip
        figures.append(figure(f"{key}_agreement", what, f"<= {limit}", [apart]))
    return figures
