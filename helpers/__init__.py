"""Helpers of the notebook series on transfer learning in NLP.

Layers, from the ground up; a module imports only from its own layer and from those below:

1. `assets`, `parameters`, `text`, `kernels`, `readers`, `checkpoints`
2. `data` (with `splits`), `vectors` (with `lexicon` and `glove`), `batching`, `models`,
   `pretraining`, `alignment`
3. `transfer`, `training`, `schemes`, `language_modelling`, `masked_language_modelling`
4. `evaluation`, `entities`, `results`, `plots`
5. `run` (with `execution`, `grid`, `provenance`, `readme`)
"""
