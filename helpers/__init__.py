"""Helpers of the notebook series on transfer learning in NLP.

Layers, from the ground up; a module imports only from its own layer and from those below:

1. `assets`, `parameters`, `text`, `kernels`, `readers`
2. `data` (with `splits`), `vectors` (with `lexicon` and `glove`), `models`
3. `transfer`, `training`
4. `evaluation`, `results`, `plots`
5. `run` (with `execution`, `grid`, `provenance`, `readme`)
"""
