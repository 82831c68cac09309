"""`fit` and prediction on two processes (gloo, CPU): each text once an epoch, as one would."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = """
import json, sys
import numpy as np, torch
from torch import nn
from helpers.models import TextCNN
from helpers.text import Encoded, EpochParts, LengthBatches
from helpers.training import cross_entropy, extract_features, fit, predict, predict_proba
from helpers.training.schemes import JointBatches, joint_loss

torch.set_num_threads(1)
rng = np.random.default_rng(0)
data = Encoded([np.array([i + 1, *rng.integers(70, 99, rng.integers(1, 9))]) for i in range(64)],
               np.arange(64) % 4)
small = Encoded(data.ids[:3], data.labels[:3])
samplers = {
    "length": (lambda: LengthBatches(data.lengths, 6, shuffle=True, seed=1), cross_entropy),
    "parts": (lambda: EpochParts(data.lengths, 6, parts=4, seed=1), cross_entropy),
    "joint": (lambda: JointBatches(data.lengths[:24], data.lengths[24:], 5, 8, seed=1),
              joint_loss(4, 0.5)),
    "in turn": (lambda: JointBatches(data.lengths[:24], data.lengths[24:], 5, 8, True, seed=1),
                joint_loss(4, 0.5)),
}


def model():
    torch.manual_seed(0)
    return TextCNN(torch.randn(99, 6), 4, widths=(1, 2), filters=5, dropout=0.0)


found = {"predictions": {}}
for name, (make, loss) in samplers.items():
    joint = name in ("joint", "in turn")
    labels = np.where(np.arange(64) < 24, data.labels, 4 + data.labels) if joint else data.labels
    seen, epochs = [], []

    def watch(output, batch, loss=loss, seen=seen):
        seen.append(batch["input_ids"][:, 0].tolist())
        return loss(output, batch)

    def note(net, epoch, seen=seen, epochs=epochs):
        epochs.append(len(seen))

    net = model()
    options = {"epochs": 8, "lr": 0.05, "callbacks": [note], "progress": False, "clip": 0.5}
    options |= {} if joint else {"validation": small}
    fitted = fit(net, Encoded(data.ids, labels), batches=make(), loss=watch, **options)
    ends = [*epochs[1:], len(seen)]
    found[name] = {"seen": [seen[a:b] for a, b in zip(epochs, ends)],
                   "weights": torch.cat([p.detach().flatten() for p in net.parameters()]).tolist(),
                   "history": fitted.history.drop(columns="seconds").to_dict("list")}
for size in (1, 3, 64):
    part = Encoded(data.ids[:size])
    found["predictions"][size] = [predict_proba(net, part, batch_size=5).tolist(),
                                  predict(net, part).tolist(),
                                  extract_features(net, part, batch_size=5).tolist()]
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
with open(f"{sys.argv[1]}.{rank}", "w") as file:
    json.dump(found, file)
"""


def start(script, name, *launch):
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                   "ACCELERATE_MIXED_PRECISION": "no", "PYTHONPATH": Path.cwd()}  # fmt: skip
    command = [sys.executable, *launch, script, script.parent / name]
    subprocess.run([*map(str, command)], check=True, timeout=300, capture_output=True,
                   env=os.environ | {k: str(v) for k, v in environment.items()})  # fmt: skip
    return [json.loads(file.read_text()) for file in sorted(script.parent.glob(f"{name}.*"))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the script found on one process, and on each of two."""
    script = tmp_path_factory.mktemp("processes") / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = ["-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", port]
    return start(script, "one")[0], start(script, "two", *both)


SAMPLERS = ["length", "parts", "joint", "in turn"]
EPOCHS = {"length": 1, "parts": 4, "joint": 1, "in turn": 1}  # in which each text is read once


def rows(processes, name, epochs):
    """First ids, one for each text, that any process read in some epochs."""
    parts = [p[name]["seen"][epoch] for p in processes for epoch in epochs]
    return sorted(row for part in parts for batch in part for row in batch)


@pytest.mark.parametrize("name", SAMPLERS)
def test_over_an_epoch_every_text_is_read_and_orders_differ(runs, name):
    one, two = runs
    assert len(two) == 2
    n, padding = EPOCHS[name], 0
    for first in range(0, 8, n):
        wanted, found = (rows(each, name, range(first, first + n)) for each in ([one], two))
        spare = list(found)
        for row in wanted:
            spare.remove(row)  # raises where a text is lost
        padding += len(spare)  # a batch of one text, which one process reads for nothing
        assert set(found) == set(wanted)
        if name in ("length", "parts"):
            assert wanted == list(range(1, 65))
    short = sum(len(batch) == 1 for epoch in one[name]["seen"] for batch in epoch)
    assert padding == short
    for process in two:
        assert [len(epoch) for epoch in process[name]["seen"]] == [
            len(epoch) for epoch in one[name]["seen"]
        ]
        orders = [str(epoch) for epoch in process[name]["seen"]]
        assert len(set(orders)) == 8


@pytest.mark.parametrize("name", ["length", "parts", "in turn"])
def test_two_processes_train_as_one_does(runs, name):
    """Without dropout, up to rounding: each batch is shared, its loss stays a mean over it."""
    one, two = runs
    for process in two:
        np.testing.assert_allclose(process[name]["weights"], one[name]["weights"], atol=2e-4)
        for column, values in one[name]["history"].items():
            np.testing.assert_allclose(process[name]["history"][column], values, atol=1e-3)


def test_both_processes_end_with_the_same_weights(runs):
    _, two = runs
    for name in SAMPLERS:
        assert two[0][name]["weights"] == two[1][name]["weights"]


def test_predictions_are_all_there_and_in_order(runs):
    _, two = runs
    assert two[0]["predictions"] == two[1]["predictions"]
    for size, (chances, labels, features) in two[0]["predictions"].items():
        assert len(chances) == len(labels) == len(features) == int(size)
        assert np.argmax(chances, 1).tolist() == labels
    whole = two[0]["predictions"]["64"]
    for size in ("1", "3"):  # fewer batches than processes
        for part, all_rows in zip(two[0]["predictions"][size], whole, strict=True):
            np.testing.assert_allclose(part, all_rows[: int(size)], atol=1e-5)


def test_torch_is_left_alone(runs):
    assert not torch.distributed.is_initialized()
