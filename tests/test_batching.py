"""EpochParts: a pass in parts, nothing lost and nothing twice."""

from hypothesis import given
from hypothesis import strategies as st

from helpers.text import EpochParts


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    parts=st.integers(1, 12),
)
def test_the_rounds_of_a_pass_hold_each_row_once(lengths, batch_size, parts):
    rounds = EpochParts(lengths, batch_size, parts, seed=3)
    for once in range(2):
        seen = []
        for epoch in range(once * rounds.parts, (once + 1) * rounds.parts):
            rounds.set_epoch(epoch)
            batches = list(rounds)
            assert 1 <= len(batches) <= len(rounds)
            assert max(map(len, batches)) <= batch_size
            seen += [row for batch in batches for row in batch]
        assert sorted(seen) == list(range(len(lengths)))


def test_passes_differ_and_seeds_repeat():
    def rows(seed, first):
        rounds, found = EpochParts([4] * 40, 4, 5, seed), []
        for epoch in range(first, first + 5):
            rounds.set_epoch(epoch)
            found += list(rounds)
        return found

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(0, 5)
    assert rows(0, 0) != rows(1, 0)
