"""Tests compare numbers: what they start computes in float32 unless a test says otherwise."""

import os

os.environ.setdefault("ACCELERATE_MIXED_PRECISION", "no")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several side by side: they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
