"""Checks of notebook 11: a rotation between languages, neighbours without hubs, full-width forms."""

import numpy as np
from scipy.linalg import orthogonal_procrustes

from helpers.exercises import exercise


@exercise
def rotation(align) -> str:
    """`align(source, target)`: word pairs as rows (n, d), (n, d) -> the map (d, d) that keeps all
    lengths and brings `source @ map` closest to `target`."""
    rng = np.random.default_rng(0)
    true = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    source = rng.normal(size=(60, 5))
    for noise in (0.0, 0.5):
        target = source @ true + noise * rng.normal(size=(60, 5))
        found = np.asarray(align(source.copy(), target.copy()))
        assert found.shape == (5, 5), f"for 5 dimensions the map should be (5, 5), not {found.shape}"
        assert np.isfinite(found).all(), "the map holds NaN or infinity"
        kept = np.allclose(found.T @ found, np.eye(5), atol=1e-5)
        assert kept, "the map stretches or shears: a rotation W has W.T @ W = 1"
        right = orthogonal_procrustes(source, target)[0]
        turned = np.allclose(found, right.T, atol=1e-5) and not np.allclose(right, right.T)
        assert not turned, "this maps the target to the source: transpose it"
        best = np.linalg.norm(source @ right - target)
        ours = np.linalg.norm(source @ found - target)
        assert ours <= best + 1e-5, f"the distance is {ours:.2f}, and could be {best:.2f}"
    return "what is not a rotation cannot be undone, and distorts what the vectors knew."


@exercise
def without_hubs(csls) -> str:
    """`csls(similarity, k)`: cosines (n, m) -> (n, m), twice the cosine less the mean of the row's
    k largest and of the column's k largest (Conneau et al. 2018)."""
    rng = np.random.default_rng(1)
    similarity = rng.uniform(-0.2, 0.6, size=(6, 9))
    similarity[:, 4] = 0.7  # a hub: near to all
    similarity[np.arange(6), [0, 1, 2, 3, 5, 6]] = 0.69
    given = similarity.copy()
    for k in (1, 3):
        found = np.asarray(csls(given, k))
        assert np.array_equal(given, similarity), "`csls` changes its input: work on a copy"
        assert found.shape == (6, 9), f"the result should be (6, 9), not {found.shape}"
        rows = np.sort(similarity, axis=1)[:, -k:].mean(axis=1, keepdims=True)
        columns = np.sort(similarity, axis=0)[-k:].mean(axis=0, keepdims=True)
        right = 2 * similarity - rows - columns
        assert not np.allclose(found, 2 * similarity - rows), "the columns' neighbours are left out"
        assert not np.allclose(found, similarity - rows - columns), "the cosine counts twice"
        assert np.allclose(found, right, atol=1e-6), f"with k = {k} the values differ"
    return "a word that is near to everything is nobody's translation."


@exercise
def half_width(narrow) -> str:
    """`narrow(text)`: full-width ASCII (！ to ～) and the ideographic space as ASCII; else as is."""
    cases = {"ＷｉＦｉ！": "WiFi!", "３００元": "300元", "好　的": "好 的", "好。": "好。", "": ""}
    for text, right in cases.items():
        found = narrow(text)
        assert isinstance(found, str), "`narrow` should return text"
        assert found == right, f"{text!r} should become {right!r}, not {found!r}"
    assert narrow("～") == "~", "the last full-width sign is ～"
    for text in ("½", "㈱", "ﬁ", "ｱ", "①"):
        assert narrow(text) == text, f"{text!r} is no full-width ASCII and should stay: not NFKC"
    return "one arithmetic step, as the 94 signs stand in ASCII's order."
