"""Checks of an estimator: it is fitted and scored as a trial is, on a few utterances."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from tfser.errors import TrialError
from tfser.execution import fitted_state
from tfser.features.threads import one_thread
from tfser.models import Estimator
from tfser.models_command import case as cases
from tfser.models_command.case import Case, Material
from tfser.models_command.finding import Told, described, remark, wrong
from tfser.planning import own_models
from tfser.training import estimators
from tfser.training.determinism import derived_seed, seed_all, settled
from tfser.training.estimators import Fit, FitData, Inputs
from tfser.trial import Value


class EstimatorChecks:
    """The checks of one estimator, in order; later ones use what earlier ones fitted."""

    def __init__(self, case: Case, material: Material) -> None:
        assert isinstance(case.model, Estimator)
        self.case, self.model = case, case.model
        self.data = FitData(
            features=material.rows,
            vector=material.vector,
            emotions=material.emotions,
            train=material.train,
            speakers=material.speakers[: len(material.train)],
            scored=material.scored,
        )
        self.fit: Fit | None = None
        self.scores: np.ndarray | None = None

    def in_order(self) -> list[tuple[str, Callable[[], Told], bool]]:
        """Return each check's name, the check, and whether the later ones need what it does."""
        return [
            ("fit", self.fitted, True),
            ("scores", self.scored, True),
            ("same seed", self.repeated, False),
            ("inputs", self.inputs, False),
            ("state", self.state, False),
            ("settings", self.extreme_settings, False),
        ]

    def fitted(self) -> Told:
        """Fit it."""
        self.fit = self._fit(self.case.settings, 0)
        return [("remark", note) for note in self.fit.notes]

    def scored(self) -> Told:
        """Score utterances together, and some alone."""
        assert self.fit is not None
        self.scores = self.fit.score(self.data, transductive=self.model.transductive).probabilities
        return []

    def repeated(self) -> Told:
        """Fit again with the same seed."""
        again = self._fit(self.case.settings, 0).score(self.data, transductive=True).probabilities
        assert self.scores is not None
        if np.array_equal(again, self.scores):
            return []
        return wrong(
            "two fits with one seed in one process differ; what is kept from one fit to the next, and random numbers "
            "of a generator of its own (np.random.default_rng(), os.urandom, the clock) do that: use build's seed"
        )

    def own_digest(self) -> str:
        """Return a digest of the scores of this process."""
        if self.scores is None:
            self.scores = self._fit(self.case.settings, 0).score(self.data, transductive=True).probabilities
        return hashlib.sha256(self.scores.tobytes()).hexdigest()

    def inputs(self) -> Told:
        """Fit and score once by hand, to see whether it writes to what it is given."""
        training, scored = (estimators.inputs(self.data.features, r, self.data.vector) for r in self._rows())
        labels = np.array([self.data.emotions[emotion] for *_, emotion in self.data.train])
        copies = [_copied(each) for each in (training, labels, scored)]
        with settled(torch.device("cpu")), one_thread():
            seed_all(derived_seed(0, "fit"))
            model = self.model.build(self.case.ablation, dict(self.case.settings), 0)
            keyword = estimators.groups_keyword(model)
            groups = {keyword: np.array(self.data.speakers)} if keyword else {}
            model.fit(training, labels, **groups)
            (model.predict_proba if hasattr(model, "predict_proba") else model.decision_function)(scored)
        where = [
            name
            for name, now, before in zip(
                ("fit changes X", "fit changes y", "scoring changes X"), (training, labels, scored), copies, strict=True
            )
            if not _equal(now, before)
        ]
        said = (
            f"{' and '.join(where)} in place; tfser gives it copies, other callers may not: write to a copy of its own"
        )
        return remark(said) if where else []

    def state(self) -> Told:
        """Keep the fitted state without pickle, read it, and score with it."""
        assert self.fit is not None
        assert self.scores is not None
        try:
            again = Fit(
                fitted_state.load(fitted_state.dump(self.fit.model)),
                self.data.emotions,
                frozenset(self.data.emotions),
                0,
            )
            same = np.array_equal(again.score(self.data, transductive=True).probabilities, self.scores)
            why = "" if same else "what skops writes of it gives other scores"
        except (fitted_state.StateError, TrialError) as error:
            why = str(error)
        return remark(f"its fitted state is not kept, so that predict fits it again: {why}") if why else []

    def extreme_settings(self) -> Told:
        """Fit it with each setting at its ends."""
        found: Told = []
        for said, case in cases.extremes(self.case):
            if own_models.asked(case.model, case.ablation, case.settings):
                continue  # refused in words
            if problems := own_models.build_problems(case.model, case.ablation, case.settings):
                found += wrong(f"with {said}: {'; '.join(problems)}; narrow the range, or refuse it in problems")
                continue
            try:
                self._fit(case.settings, 0).score(self.data, transductive=True)
            except TrialError as error:
                # With so few utterances a fit may be impossible; a value that is never legal is its range's.
                never = type(error.__cause__).__name__ == "InvalidParameterError"
                why = f"with {said}: {described(error, self.case.source)}; narrow the range, or refuse it in problems"
                found += wrong(why) if never else remark(f"{why}, unless it is for want of utterances here")
        return found

    def _fit(self, settings: Mapping[str, Value], seed: int) -> Fit:
        return estimators.fit(lambda: self.model.build(self.case.ablation, dict(settings), seed), self.data, seed)

    def _rows(self) -> tuple[Any, Any]:
        return self.data.train, self.data.scored


def _copied(given: Inputs) -> Inputs:
    return [each.copy() for each in given] if isinstance(given, list) else given.copy()


def _equal(one: Inputs, other: Inputs) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(np.array_equal(one, other))
