"""Tests compare numbers: what they start computes in float32 unless a test says otherwise."""

import os

os.environ.setdefault("ACCELERATE_MIXED_PRECISION", "no")
