"""Notebook 03's recipe beside two plain epochs, on two files such as a benchmark gives.

    python benchmarks/official_split.py          an hour on two cores; writes the table it prints
                                                 to build/official_split.csv

6,920 labelled sentences of film reviews (as many as the binary Stanford Sentiment Treebank has for
training) are one file, the official test sentences another. The notebook gets both by its
parameters alone, keeps an eighth of the first for validation and trains on the rest. The plain
epochs are transformers' Trainer with its defaults (all weights, 5e-5 falling in a straight line,
batches drawn at random), 16 texts a batch, on all 6,920. Three seeds each, the same test texts.
"""

import tempfile
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset, concatenate_datasets
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainingArguments

from helpers import data, training
from helpers.models import EncoderClassifier, encode_texts, load_tokenizer
from helpers.series.runner import Job, execute

NOTEBOOK = Path("notebooks/03_feature_extraction_vs_fine_tuning.ipynb")
N_TRAIN, SEEDS, CUT = 6920, 3, 64


def write(file: Path, rows: Dataset) -> None:
    """Texts and the names of their classes with a tab between, as benchmarks give them: no quotes
    around a text, no tab in it."""
    names = rows.features["label"].names
    lines = [f"{row['text']}\t{names[row['label']]}" for row in rows]
    file.write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")


def by_notebook(train: Path, test: Path, folder: Path) -> pd.DataFrame:
    """The accuracies that notebook 03 records, one row a run."""
    given = {"train_file": str(train), "test_file": str(test)}
    given |= {"label_counts": [N_TRAIN], "n_seeds": SEEDS}
    job = execute(Job(NOTEBOOK, folder / "03.ipynb", given))
    if job.error:
        raise RuntimeError(job.error)
    return job.rows().query("metric == 'accuracy' and n_train > 5000")


def plain_epochs(rows: dict, seed: int, folder: Path) -> float:
    """Test accuracy after two epochs of transformers' Trainer."""
    tokenizer, (train, test) = load_tokenizer("minilm"), (rows["train"], rows["test"])
    train, test = (encode_texts(tokenizer, of["text"], of["label"], CUT) for of in (train, test))
    torch.manual_seed(seed)
    model = EncoderClassifier("minilm", n_classes=2)
    options = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "seed": seed}
    options |= {"save_strategy": "no", "report_to": "none", "logging_strategy": "no"}
    options |= {"disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False}
    options |= {"remove_unused_columns": False}  # so that the labels reach the loss
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **options),
        train_dataset=train,
        data_collator=train.collate,
        compute_loss_func=lambda logits, labels, **_: F.cross_entropy(logits, labels),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return float((training.predict(model, test) == rows["test"]["label"]).mean())


def main() -> None:
    splits = data.load("movie_reviews", quiet=True)
    # from both splits: the notebook's hash finds its validation texts again among them
    labelled = concatenate_datasets([splits["train"], splits["validation"]])
    rows = {"train": data.subset(labelled, N_TRAIN, 0), "test": splits["test"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, of in rows.items():
            write(folder / f"{part}.tsv", of)
        found = by_notebook(folder / "train.tsv", folder / "test.tsv", folder)
        plain = [plain_epochs(rows, seed, folder) for seed in range(SEEDS)]
    found = found[["method", "n_train", "n_test", "seed", "value"]]
    plain = pd.DataFrame({"method": "two plain epochs", "n_train": N_TRAIN, "value": plain})
    table = pd.concat([found, plain.assign(n_test=len(rows["test"]), seed=range(SEEDS))])
    Path("build").mkdir(exist_ok=True)
    table.to_csv("build/official_split.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
