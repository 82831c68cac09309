"""Checks of notebook 11: what an oracle buys, mutual nearest neighbours, full-width forms."""

import numpy as np

from helpers.exercises import exercise


@exercise
def oracle(oracle_gain) -> str:
    """`oracle_gain(english, chinese, test)`: accuracies (runs, checkpoints) of two validation sets
    and the test -> the mean test accuracy chosen by Chinese less that chosen by English."""
    english = np.array([[0.9, 0.8, 0.7], [0.7, 0.9, 0.8], [0.8, 0.7, 0.9]])
    chinese = np.array([[0.6, 0.7, 0.8], [0.8, 0.7, 0.6], [0.6, 0.7, 0.8]])
    test = np.array([[0.60, 0.70, 0.66], [0.71, 0.62, 0.70], [0.65, 0.70, 0.64]])
    given = [english.copy(), chinese.copy(), test.copy()]
    found = oracle_gain(*given)
    assert np.ndim(found) == 0, "`oracle_gain` should return one number"
    kept = all(map(np.array_equal, given, (english, chinese, test)))
    assert kept, "`oracle_gain` changes what it is given: work on copies"
    right = (0.06 + 0.09 + 0.0) / 3
    best = np.mean(test.max(axis=1)) - (0.60 + 0.62 + 0.64) / 3
    whole = test.mean(0)[chinese.mean(0).argmax()] - test.mean(0)[english.mean(0).argmax()]
    assert not np.isclose(found, best), "the oracle sees Chinese validation texts, not the test"
    assert not np.isclose(found, -right), "the sign is wrong: oracle less honest"
    assert not np.isclose(found, whole), "each run ships a checkpoint of its own: look in each row"
    assert np.isclose(found, right), f"three runs should give {right:.3f}, not {found:.3f}"
    worse = oracle_gain(english[:1], chinese[:1], np.array([[0.9, 0.8, 0.7]]))
    assert np.isclose(worse, -0.2), "where Chinese chooses worse, the gain is negative"
    return "a number without its choice of checkpoint is half a result."


@exercise
def mutual_neighbours(mutual) -> str:
    """`mutual(similarity)`: similarities (n, m) -> the pairs (i, j), by rising i, in which j is
    nearest to i among the columns, and i nearest to j among the rows (Conneau et al. 2018)."""
    similarity = np.array([[0.9, 0.1, 0.2, 0.3], [0.8, 0.1, 0.7, 0.2], [0.7, 0.6, 0.1, 0.5]])
    for table, right in (
        (similarity, [(0, 0)]),  # column 0 is a hub
        (similarity[:, 1:], [(1, 1), (2, 0)]),
        (np.eye(4)[:, [1, 0, 3, 2]], [(0, 1), (1, 0), (2, 3), (3, 2)]),
    ):
        given = table.copy()
        found = [tuple(map(int, pair)) for pair in mutual(given)]
        assert np.array_equal(given, table), "`mutual` changes its input: work on a copy"
        turned = sorted((j, i) for i, j in right)
        assert sorted(found) == sorted(right) or sorted(found) != turned, "the pairs are (j, i)"
        one_way = [(i, int(j)) for i, j in enumerate(table.argmax(axis=1))]
        assert found == right or found != one_way, "a hub stays: is each the other's nearest?"
        assert sorted(found) == right, f"{table.shape} cosines should give {right}, not {found}"
        assert found == right, "the pairs should come by rising i"
    return "two that choose each other are a better bet than one that chooses."


@exercise
def half_width(narrow) -> str:
    """`narrow(text)`: full-width ASCII (！ to ～) and the ideographic space as ASCII."""
    cases = {"ＷｉＦｉ！": "WiFi!", "３００元": "300元", "好　的": "好 的", "好。": "好。", "": ""}
    for text, right in cases.items():
        found = narrow(text)
        assert isinstance(found, str), "`narrow` should return text"
        assert found == right, f"{text!r} should become {right!r}, not {found!r}"
    assert narrow("～") == "~", "the last full-width character is ～"
    for text in ("½", "㈱", "ﬁ", "ｱ", "①", "｟"):
        assert narrow(text) == text, f"{text!r} is no full-width ASCII and should stay: not NFKC"
    return "one arithmetic step, as the 94 characters stand in ASCII's order."
