"""A pre-trained encoder: fine-tuned against transformers' Trainer, frozen against
sentence-transformers. The same model, texts, batch size, cut and number of threads for both."""

import tempfile

import numpy as np
import torch
from timing import figure, interleaved, ratios, seconds
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainingArguments

from helpers import data, evaluation, training
from helpers.models.encoder import EncoderClassifier, encode_texts, load_tokenizer
from helpers.text import Encoded
from helpers.training import transfer

MODEL, BATCH, EPOCHS, RATE, CUT = "minilm", 32, 2, 1e-4, 128
SETTINGS = (
    f"MiniLM (22.7 M parameters) with mean pooling and a linear head on movie reviews, {EPOCHS} "
    f"epochs, batch size {BATCH}, at most {CUT} word pieces, padded to the longest text of the "
    f"batch, float32, learning rate {RATE:g} falling linearly. "
)
TRAINER = (
    "Trainer has its defaults otherwise: fused AdamW, no weight decay, gradient norm clipped at 1, "
    "no evaluation; its checkpoints, logs and progress bar are switched off, as are fit's."
)


def classifier(seed: int) -> EncoderClassifier:
    torch.manual_seed(seed)
    return EncoderClassifier(MODEL, n_classes=2)


def by_trainer(model, train, seed: int) -> float:
    """Seconds that transformers' Trainer takes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            learning_rate=RATE,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
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


def by_fit(model, train: Encoded, seed: int, recipe: bool) -> float:
    """Seconds that `training.fit` takes: with the recipe of the series, or as the Trainer does it,
    random batches and all parameters."""
    if recipe:
        transfer.freeze_below(model, "layer 1")
    else:
        train = train.subset(range(len(train)))
        train.lengths = np.ones(len(train), int)  # no text is longer: the batches are random
    options = {"lr": RATE, "schedule": training.linear(warmup=0), "weight_decay": 0.0}
    options |= {"epochs": EPOCHS, "batch_size": BATCH, "seed": seed, "progress": False}
    return seconds(lambda: training.fit(model, train, **options))


REFERENCE = "Trainer"
RUNS = {
    REFERENCE: by_trainer,
    "fit, like for like": lambda *run: by_fit(*run, recipe=False),
    "fit, recipe": lambda *run: by_fit(*run, recipe=True),
}
COMPARED = {  # ours, the bar, what it does
    "like for like": (
        "fit, like for like", ">= 1.4",
        "Both draw their batches at random and train all parameters; what differs is the loop and "
        "how it computes on a CPU. ",
    ),
    "recipe": (
        "fit, recipe", ">= 2.0",
        "The Trainer draws its batches at random and trains all parameters; the recipe of the "
        "series has batches of texts of like length and frozen embeddings. ",
    ),
}  # fmt: skip


def fine_tuning(pairs: int, n_train: int, n_test: int) -> list[dict]:
    """Training throughput and test accuracy against transformers' Trainer, one seed a pair."""
    splits, tokenizer = data.load("movie_reviews", quiet=True), load_tokenizer(MODEL)
    chosen = data.subset(splits["train"], n_train, seed=0)
    train = encode_texts(tokenizer, chosen["text"], chosen["label"], CUT)
    rows = splits["test"].select(range(min(n_test, len(splits["test"]))))
    test = encode_texts(tokenizer, rows["text"], rows["label"], CUT)
    few, predictions = train.subset(range(BATCH)), {name: [] for name in RUNS}

    def side(name: str) -> float:
        seed = len(predictions[name])
        model = classifier(seed)
        spent = RUNS[name](model, train, seed)
        predictions[name].append(training.predict_logits(model, test).argmax(-1))
        return EPOCHS * len(train) / spent

    for run in RUNS.values():  # the first steps of a process are slower
        run(classifier(seed=0), few, 0)
    rates = interleaved({name: lambda name=name: side(name) for name in RUNS}, pairs)
    figures = []
    for label, (ours, bar, note) in COMPARED.items():
        what = f"fine-tuning, examples a second, over transformers' Trainer: {label}"
        sides = {ours: rates[ours], REFERENCE: rates[REFERENCE]}
        key, note = f"fine_tuning_{label.replace(' ', '_')}", SETTINGS + note + TRAINER
        found = figure(key, what, bar, ratios(*sides.values()), sides, "examples/s", note)
        figures += [found, accuracy(label, test.labels, predictions[ours], predictions[REFERENCE])]
    return figures


def accuracy(label: str, labels, ours: list, theirs: list) -> dict:
    """How many points of accuracy `fit` is above the Trainer, with a paired interval."""
    gap = evaluation.difference(labels, ours, theirs)
    means = [100 * float(np.mean(np.array(found) == labels)) for found in (ours, theirs)]
    by_seed = [
        100 * float((a == labels).mean() - (b == labels).mean())
        for a, b in zip(ours, theirs, strict=True)
    ]
    found = figure(
        f"accuracy_{label.replace(' ', '_')}",
        f"test accuracy after the same epochs, points above the Trainer: {label}",
        ">= -1",
        by_seed,
        {"fit": [means[0]], "Trainer": [means[1]]},
        "% of the test set",
        f"Mean over {len(ours)} seeds on {len(labels):,} test texts; the range is the paired 95 % "
        "bootstrap interval over texts and seeds.",
    )
    value, low, high = (100 * number for number in gap)
    return found | {"value": value, "low": low, "high": high, "met": value >= -1}


def frozen_encoding(pairs: int, n_texts: int) -> list[dict]:
    """Sentence vectors a second, tokenisation included, over sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    from helpers import assets

    texts = data.load("movie_reviews", quiet=True)["train"][:n_texts]["text"]
    theirs = SentenceTransformer(assets.resolve(MODEL), device="cpu")
    cut, tokenizer, ours = theirs.max_seq_length, load_tokenizer(MODEL), classifier(seed=0)
    vectors = {}

    def encode() -> None:
        encoded = encode_texts(tokenizer, texts, max_length=cut)
        found = training.predict_logits(ours, encoded, batch_size=BATCH, forward=ours.features)
        vectors["helpers"] = found / np.linalg.norm(found, axis=1, keepdims=True)

    def reference() -> None:
        options = {"batch_size": BATCH, "show_progress_bar": False}
        vectors["sentence-transformers"] = theirs.encode(texts, **options)

    sides = {"helpers": encode, "sentence-transformers": reference}
    for work in sides.values():
        work()
    times = interleaved({name: lambda w=work: seconds(w) for name, work in sides.items()}, pairs)
    rates = {name: [n_texts / spent for spent in times[name]] for name in sides}
    apart = float(np.abs(vectors["helpers"] - vectors["sentence-transformers"]).max())
    return [
        figure(
            "frozen_encoding",
            "frozen encoding, texts a second, over sentence-transformers",
            ">= 1.0",
            ratios(rates["helpers"], rates["sentence-transformers"]),
            rates,
            "texts/s",
            f"MiniLM, {n_texts:,} movie reviews, batch size {BATCH}, at most {cut} word pieces, "
            "tokenisation and normalisation included.",
        ),
        figure(
            "frozen_encoding_agreement",
            "largest difference of a component of the normalised sentence vectors",
            "<= 0.0001",
            [apart],
        ),
    ]
