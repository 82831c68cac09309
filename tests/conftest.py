"""Tests compare numbers: what they start computes in float32 unless a test says otherwise."""

import os

os.environ.setdefault("ACCELERATE_MIXED_PRECISION", "no")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several side by side: they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# A property holds for the same examples everywhere, however busy the machine is
settings.register_profile("series", deadline=None, derandomize=True)
settings.load_profile("series")
