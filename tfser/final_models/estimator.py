"""The estimator of a final trial, from its fitted state or fitted again, to score any audio file.

State is read by skops, and only where its types are scikit-learn's and NumPy's. Where none was kept, or it cannot be
read, the estimator is fitted again on the stored features of the trial's database, after saying so.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from tfser.databases.folders import show
from tfser.errors import RequestError, TrialError, in_a_line
from tfser.execution import fitted_state, known_sound, run_estimator
from tfser.features.base import Extractor
from tfser.features.pack import DAMAGED, Pack
from tfser.features.standardise import TRANSDUCTIVE
from tfser.final_models.model import (
    NEEDS_SPEAKER,
    Blueprint,
    FinalModel,
    Scored,
    in_words,
    other_numerics,
    unknown_model,
)
from tfser.models import Estimator, find
from tfser.planning.settings import complete, extractor
from tfser.storage.places import Place
from tfser.training.estimators import Fit


class FinalEstimator:
    """The estimator of a final trial, with its features.

    Args:
        blueprint: says what it is.
        state: its fitted state; ``None`` where there is none.
        unkept: why there is none.
        features: the feature store that it can be fitted from; ``None`` where there is none, as on a server.

    Raises:
        RequestError: this tfser cannot give the trial's scores: it computes other numbers, has no such model, or the
            estimator can neither be read nor fitted.
    """

    def __init__(
        self, blueprint: Blueprint, state: bytes | None, *, unkept: str = "", features: Place | None = None
    ) -> None:
        self.spec = blueprint.spec
        self.trial_id, self.emotions = self.spec.trial_id, blueprint.emotions
        self._trained = in_words(blueprint.versions, *_PACKAGES)
        declared = find(self.spec.model, self.spec.source)
        if why := other_numerics(blueprint) or ("" if isinstance(declared, Estimator) else unknown_model(blueprint)):
            raise self._refused(why)
        assert isinstance(declared, Estimator)
        self.transductive = declared.transductive
        try:
            self.settings = complete(declared, self.spec.settings)
            self.extractor: Extractor = extractor(declared, self.spec.settings)
        except (KeyError, TypeError, ValueError) as error:
            raise self._refused(
                f"its settings are not those of this tfser ({error}); use {self._trained}, which trained it"
            ) from None
        self.per_speaker = self.settings.get("standardisation") == TRANSDUCTIVE
        """Whether an utterance can be scored only beside the others of its speaker."""
        self._standardisation = blueprint.standardisation
        if self._standardisation is None and self.settings.get("standardisation") == "training":
            raise self._refused(f"its entry has no standardisation; use {self._trained}, which wrote it")
        fit, why = self._read(blueprint, state) if state is not None else (None, unkept)
        self._fit = self._again(why, features) if fit is None else fit
        if blueprint.known_sound:
            heard = run_estimator.sound_scores(self._fit, self.spec, self._standardisation)
            self._compare("a made-up sound", heard, blueprint.known_sound)

    def _read(self, blueprint: Blueprint, state: bytes) -> tuple[Fit | None, str]:
        """Read the fitted state, or return why it cannot be used."""
        if fitted_state.digest(state) != blueprint.weights_sha256:
            return None, "its fitted state is damaged: its checksum is not the one in the entry"
        try:
            return Fit(fitted_state.load(state), self.emotions, frozenset(self.emotions), self.spec.seed), ""
        except (fitted_state.StateError, TrialError) as error:
            return None, f"its fitted state cannot be used: {error}"

    def _again(self, why: str, features: Place | None) -> Fit:
        """Fit it again."""
        if features is None:
            raise self._refused(f"{why}; only tfser predict beside the features of its database can fit it again")
        path = self.pack(features)
        try:
            pack = Pack.open(path, self.spec.database_digest)
            print(f"trial {self.trial_id}: {why}; it is fitted again on the features {path}", file=sys.stderr)
            return run_estimator.refitted(self.spec, pack)
        except DAMAGED as error:
            what_to_do = "put them back, or take its entry out of the ledger and type its sweep's command again"
            raise self._refused(
                f"{why}, and the features {path}, on which it is fitted again, cannot be read ({in_a_line(error)}); "
                f"{what_to_do}"
            ) from None
        except TrialError as error:
            raise self._refused(f"{why}, and it cannot be fitted again: {error}; use {self._trained}") from None

    def _refused(self, why: str) -> RequestError:
        return RequestError(f"trial {self.trial_id}", [why])

    def pack(self, features: Place) -> Place:
        """Return the path, without suffix, at which a feature store keeps the features of the trial's database."""
        return features / self.extractor.id / f"{self.spec.database}-{self.spec.database_digest}"

    def scores(self, utterances: Sequence[np.ndarray], one_speaker: bool = False) -> list[Scored]:
        """Score utterances, each by itself, or together where the estimator is transductive or ``per_speaker``.

        Args:
            utterances: their features, shape (rows, values) each.
            one_speaker: whether they are all utterances of one speaker.

        Raises:
            TrialError: it gives no probabilities.
            RequestError: it is ``per_speaker``, and they are not.
        """
        if self.per_speaker and not one_speaker:
            raise self._refused(NEEDS_SPEAKER)
        if not utterances:
            return []
        together = self.transductive or self.per_speaker
        groups = [list(utterances)] if together else [[each] for each in utterances]
        rows = np.concatenate([self._probabilities(group) for group in groups])
        nothing = np.empty((0, len(self.emotions))), np.empty((0, 0), dtype=np.int64)
        return [Scored(row, *nothing) for row in rows]

    def _probabilities(self, utterances: Sequence[np.ndarray]) -> np.ndarray:
        return self._fit.probabilities(run_estimator.heard(self.spec, utterances, self._standardisation))

    def compare(self, utterances: Mapping[str, np.ndarray], recorded: Mapping[str, Sequence[float]]) -> None:
        """Check that utterances get the scores that were recorded for them; not where those depend on each other.

        Args:
            utterances: features by id.
            recorded: probabilities by id.

        Raises:
            RequestError: an utterance gets other scores.
        """
        for name, frames in {} if self.transductive or self.per_speaker else utterances.items():
            found = self.scores([frames])[0].probabilities.tolist()
            self._compare(f"the test utterance {show(name)}", found, recorded[name])

    def _compare(self, what: str, found: Sequence[float], recorded: Sequence[float]) -> None:
        if not known_sound.same(found, recorded):
            raise self._refused(
                f"it gives {what} other scores than were recorded: the code, the libraries or the features are not "
                f"those that trained it; use {self._trained}, unchanged, or take its entry out of the ledger and type "
                "its sweep's command again"
            )


_PACKAGES = ("tfser", "numpy", *run_estimator.PACKAGES)
"""Packages that an estimator's scores depend on."""


def scored(
    model: FinalModel | FinalEstimator, utterances: Sequence[np.ndarray], one_speaker: bool = False
) -> list[Scored]:
    """Score utterances with a final model of either kind.

    Args:
        model: the model.
        utterances: their features, shape (rows, values) each.
        one_speaker: whether they are all utterances of one speaker, for a model that is ``per_speaker``.

    Raises:
        RequestError: the model is ``per_speaker``, and they are not.
    """
    if isinstance(model, FinalEstimator):
        return model.scores(utterances, one_speaker)
    return [model.score(frames, utterances if one_speaker else ()) for frames in utterances]
