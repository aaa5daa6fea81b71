"""GerDA: generalised discriminant analysis by a network, after Stuhlsatz et al. (ICASSP 2011).

"Deep Neural Networks for Acoustic Emotion Recognition: Raising the Benchmarks". Of the paper only the abstract could be
read: a network learns discriminative features of low dimension from a large set of acoustic features, and a linear
classifier follows. The criterion is as reported by others; the layers' sizes are not known.

Input: functionals, (utterances, values); output: probabilities, (utterances, K).

    z = (x - mean) / deviation, clipped at 8     values that move in training
    h = sigmoid layers of z                      256, then 64 units
    f = linear layer of h                        K - 1 discriminant features
    loss = -trace(S_T^-1 S_B) of f               scatters in which every emotion counts the same
    linear discriminant analysis of f, emotions equally probable

Ours, where the source is silent or could not be had:
    - Instead of the layer-wise pretraining by restricted Boltzmann machines, Gaussian noise on the inputs keeps the
      network from learning its training utterances by heart. All utterances are one batch of Adam, instead of
      conjugate gradients.
    - The sizes of the layers, the steps, the weight decay and the ridge in S_T.
    - ``functionals`` as they are set, by default tfser's own; the paper has openEAR's 6552 values, which no package
      computes. ``set=ComParE_2016`` is nearest, and needs openSMILE.

Nothing is chosen inside ``fit``: ``--trials`` searches the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfser.models.base import Estimator
from tfser.trial import Hyperparameter, Value

HYPERPARAMETERS: Mapping[str, Hyperparameter] = {
    "first_units": Hyperparameter(default=256, low=1, high=8192, help="units of the first hidden layer"),
    "second_units": Hyperparameter(default=64, low=1, high=8192, help="units of the second hidden layer"),
    "updates": Hyperparameter(default=60, low=1, high=100000, help="steps of Adam, each with all training utterances"),
    "learning_rate": Hyperparameter(default=1e-3, low=1e-7, high=1.0, help="Adam's learning rate"),
    "weight_decay": Hyperparameter(default=1e-4, low=0.0, high=10.0, help="Adam's, added to the gradient"),
    "noise": Hyperparameter(
        default=0.1, low=0.0, high=10.0, help="Gaussian noise on the inputs in training, in standard deviations"
    ),
    "scatter_ridge": Hyperparameter(
        default=1e-3, low=1e-9, high=1e3, help="added to the diagonal of the total scatter"
    ),
}


def build(ablation: str, settings: Mapping[str, Value], seed: int) -> Any:
    """Return the Pipeline: standardised values into the network and its linear classifier."""
    from sklearn.pipeline import make_pipeline

    from tfser.models.classifiers.gerda import Gerda
    from tfser.models.standardised import Standardised

    network = Gerda(
        hidden=(int(settings["first_units"]), int(settings["second_units"])),
        updates=int(settings["updates"]),
        learning_rate=float(settings["learning_rate"]),
        weight_decay=float(settings["weight_decay"]),
        noise=float(settings["noise"]),
        ridge=float(settings["scatter_ridge"]),
        seed=seed,
    )
    return make_pipeline(Standardised(), network)


MODEL = Estimator(
    name="gerda",
    title="GerDA (re-run, without pretraining)",
    reruns=("GerDA",),
    features="functionals",
    hyperparameters=HYPERPARAMETERS,
    ours={
        "set": "the paper's set is computed by no package, and own functionals need no licence",
        "first_units": "layers not known; 256 and 64 reached 69.6 % UAR on two seconds of EmoDB with ComParE_2016",
        "second_units": "see first_units",
        "updates": "the paper's training could not be read; 60 steps of Adam over all utterances",
        "learning_rate": "Adam's usual one",
        "weight_decay": "not known; small",
        "noise": "stands for the pretraining",
        "scatter_ridge": "keeps S_T invertible",
    },
    cost={"full": 15.0},
    build=build,
)
