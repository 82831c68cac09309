"""TextCNN against a window-by-window computation; padding and masking; frozen and tuned."""

import numpy as np
import torch

from helpers.models.text_cnn import TextCNN
from helpers.text import Encoded
from helpers.training import fit, predict_logits, transfer


def model(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vectors = torch.randn(30, 6)
        vectors[0] = 0
        return TextCNN(vectors, n_classes=3, filters=4, **options).eval()


def batch(*texts):
    data = Encoded([np.array(text) for text in texts])
    return data.collate([data[i] for i in range(len(texts))])


def test_equals_a_window_by_window_computation():
    cnn, text = model(), [5, 9, 2, 17, 8]
    vectors = torch.cat([cnn.embedding.weight[text], torch.zeros(4, 6)])  # (time, size)
    expected = []
    for convolution in cnn.convolutions:
        width = convolution.kernel_size[0]
        windows = torch.stack([vectors[i : i + width].T for i in range(len(text))])
        scores = torch.einsum("nsw,fsw->nf", windows, convolution.weight) + convolution.bias
        expected.append(scores.amax(0).relu())
    torch.testing.assert_close(
        cnn.features(**batch(text))[0], torch.cat(expected), atol=1e-5, rtol=0
    )


def test_padding_and_neighbours_change_nothing():
    cnn, texts = model(), [[4], [7, 8], list(range(1, 25))]
    together = cnn(**batch(*texts))
    for row, text in enumerate(texts):
        torch.testing.assert_close(together[row], cnn(**batch(text))[0], atol=1e-6, rtol=0)


def test_masked_positions_are_not_read_whatever_ids_stand_there():
    cnn, clean = model(), batch([4, 5], [6, 7, 8, 9])
    dirty = {**clean, "input_ids": clean["input_ids"].clone()}
    dirty["input_ids"][0, 2:] = 13
    torch.testing.assert_close(cnn(**clean), cnn(**dirty))


def test_a_text_without_words_gets_the_scores_of_no_match():
    cnn = model()
    empty = {"input_ids": torch.zeros(1, 3).long(), "attention_mask": torch.zeros(1, 3).long()}
    torch.testing.assert_close(cnn(**empty)[0], cnn.head.bias)


def test_frozen_vectors_stay_and_tuned_ones_move_and_the_callers_matrix_is_its_own():
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    before = vectors.copy()
    data = Encoded([np.arange(1, 9), np.arange(9, 17)], [0, 1])
    for freeze in (True, False):
        cnn = TextCNN(vectors, 2, filters=4, freeze=freeze)
        fit(cnn, data, epochs=2, lr=0.1, progress=False)
        same = np.array_equal(cnn.embedding.weight.detach().numpy(), before)
        assert same == freeze
        np.testing.assert_array_equal(vectors, before)
        assert predict_logits(cnn, data).shape == (2, 2)


def test_the_padding_row_is_never_trained():
    cnn = model()
    fit(
        cnn, Encoded([np.array([1, 2, 3]), np.array([4])], [0, 1]), epochs=3, lr=0.1, progress=False
    )
    assert not cnn.embedding.weight[0].any()


def test_its_layer_groups_are_in_order_and_complete():
    cnn = model()
    groups = transfer.layer_groups(cnn)
    assert list(groups) == ["embeddings", "windows", "head"]
    assert sum(map(len, groups.values())) == len(list(cnn.parameters()))
