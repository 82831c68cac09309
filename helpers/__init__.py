"""Helpers of the notebook series on transfer learning in NLP.

Floors, from the ground up; a module imports only from floors below its own:
1 `assets`, `parameters`, `text` · 2 `data`, `vectors`, `models` · 3 `transfer`, `training` ·
4 `evaluation`, `results`, `plots` · 5 `run`.
"""
