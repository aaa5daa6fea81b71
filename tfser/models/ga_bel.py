"""GA-BEL: brain emotional learning with a genetic algorithm, after Liu et al. (Neurocomputing, 2018).

"Speech Emotion Recognition Based on an Improved Brain Emotion Learning Model". Of the paper only the abstract could be
read: a genetic algorithm finds the weights of the model, on MFCC or on the IS09 set reduced by LDA, PCA or both. So
does the abstract of the algorithm's first paper (Mei, Tan and Liu, Algorithms, 2017): weights and biases of amygdala
and orbitofrontal cortex. ATFNN and the Time-Frequency Transformer print one figure of it under two names, LLD+DR and
GA-BEL; the highest figure without the test speaker in the abstract is another one (38.55 % on CASIA).

Input: functionals, (utterances, values); output: probabilities, (utterances, K).

    z = (x - mean) / deviation, clipped at 8        values that move in training
    s = LDA(PCA(z))                                 40, then K - 1 values
    E_c = V_c . s + v_c max(s) + a_c - W_c . s - b_c   amygdala and thalamus, less the orbitofrontal cortex
    softmax of E

V, v, a, W and b of all K emotions are one chromosome. Its error is the mean square of E - t, where t is 1 for the right
emotion and -1 for the others. This is a linear classifier but for max(s), and a genetic algorithm finds a worse one
than least squares do.

Ours, where the paper could not be read: the target; a population of 60, normal at first; parents that win a pair; each
gene between those of two parents; mutation; the best chromosome lives on; 150 generations; 40 values of PCA.
``functionals`` are by default tfser's own; ``set=IS09``, the paper's, needs openSMILE.

Nothing is chosen inside ``fit``: ``--trials`` searches the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Hyperparameter, Value

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "components": Hyperparameter(default=40, low=1, high=1000, help="values of PCA, before LDA"),
    "population": Hyperparameter(default=60, low=2, high=10000, help="chromosomes"),
    "generations": Hyperparameter(default=150, low=1, high=100000, help="how often the population is replaced"),
    "mutation": Hyperparameter(default=0.1, low=0.0, high=1.0, help="share of a child's genes that mutate"),
    "mutation_step": Hyperparameter(default=0.1, low=0.0, high=10.0, help="standard deviation of a mutation"),
}


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the Pipeline: standardised values, PCA, LDA, and the model that the algorithm finds."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    from tfser.models.classifiers.brain_emotional_learning import BrainEmotionalLearning, Reduced
    from tfser.models.standardised import Standardised

    return make_pipeline(
        Standardised(),
        Reduced(int(settings["components"])),
        LinearDiscriminantAnalysis(),
        BrainEmotionalLearning(
            population=int(settings["population"]),
            generations=int(settings["generations"]),
            mutation=float(settings["mutation"]),
            step=float(settings["mutation_step"]),
            seed=seed,
        ),
    )


MODEL = Estimator(
    name="ga_bel",
    title="GA-BEL (re-run, operators ours)",
    reruns=("GA-BEL",),
    features="functionals",
    hyperparameters=HYPERPARAMETERS,
    ours={
        "set": "the paper's IS09 needs openSMILE; own functionals need no licence",
        "components": "the paper's number is not known",
        "population": "not known",
        "generations": "not known",
        "mutation": "the paper's operators are not known",
        "mutation_step": "see mutation",
    },
    cost={"full": 5.0},
    build=build,
)
