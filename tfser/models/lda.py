"""LLD+DR: functionals, principal components and linear discriminant analysis, after Liu et al. (2018).

"Speech emotion recognition based on an optimized brain emotion learning model" (Neurocomputing), from which ATFNN cites
LLD+DR on CASIA. Of the paper only the abstract could be read: the INTERSPEECH 2009 set, reduced by PCA, by LDA or by
both, and a brain emotion learning model as classifier. This is the reduction with the classifier that LDA brings;
``ga_bel`` is about that of the paper.

Input: functionals, (utterances, values); output: probabilities, (utterances, K).

    z = (x - mean) / deviation, clipped at 8      values that move in training
    p = the first 20, 40 or 80 principal components of z
    K Gaussians of one covariance over p          what tells them apart are K - 1 dimensions

Ours, where the abstract is silent:
    - The number of components is chosen inside ``fit`` over training speakers; mean, deviation and components of an
      inner fold are those of its own training speakers. Nothing is left to ``--trials`` but the feature set.
    - Every emotion has the same prior probability.
    - ``functionals`` as they are set, by default tfser's own. The paper's are ``set=IS09``, which needs the extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Value

COMPONENTS = (20, 40, 80)
"""Ours: what ``fit`` chooses from; where there are fewer, a number stands for all of them."""


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the classifier; nothing in it is random."""
    from sklearn.pipeline import Pipeline

    from tfser.models.classifiers.pca_lda import PcaLda
    from tfser.models.inner_choice import chosen_over_speakers
    from tfser.models.standardised import Standardised

    steps = Pipeline([("standardised", Standardised()), ("lda", PcaLda())])
    return chosen_over_speakers(steps, {"lda__components": COMPONENTS})


MODEL = Estimator(
    name="lda",
    title="LLD+DR (re-run, PCA + LDA)",
    reruns=("LLD+DR",),
    features="functionals",
    ours={"set": "the paper's IS09 needs opensmile; own functionals need no licence"},
    cost={"full": 8.0},
    build=build,
    least_speakers=2,
)
