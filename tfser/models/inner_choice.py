"""How an estimator chooses a setting of its own: over a small grid, on folds of its training speakers.

A method that is refitted in seconds chooses inside ``fit``; every other setting is searched by ``--trials``. Knows
nothing of a trial's test utterances: ``fit`` never gets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV

FOLDS = 5
"""Ours: most inner folds. Up to as many training speakers, each is held out alone."""


class SpeakerFolds:
    """Folds that hold out whole speakers: scikit-learn's ``GroupKFold``, with fewer folds where speakers are fewer."""

    def split(self, X: Sequence[Any], y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (training, validation) indices of every inner fold.

        Raises:
            ValueError: there are fewer than two speakers.
        """
        from sklearn.model_selection import GroupKFold

        folds = self.get_n_splits(X, y, groups)
        if folds < 2:
            raise ValueError("it chooses a setting on a held-out training speaker, and there is only one")
        yield from GroupKFold(folds).split(np.zeros(len(X)), y, groups)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return min(FOLDS, len(set(groups)))

    def get_metadata_routing(self) -> Any:
        """Return that of ``GroupKFold``, by which whoever calls ``fit`` sees that it needs ``groups``."""
        from sklearn.model_selection import GroupKFold

        return GroupKFold().get_metadata_routing()


def uar(estimator: Any, X: Any, y: Any) -> float:
    """Return the mean recall of a fitted estimator over the emotions that occur in ``y``."""
    from sklearn.metrics import recall_score

    return float(recall_score(y, estimator.predict(X), labels=np.unique(y), average="macro", zero_division=0))


def chosen_over_speakers(estimator: Any, grid: Mapping[str, Sequence[Any]]) -> GridSearchCV:
    """Return ``estimator`` with the values of ``grid`` that give the best mean UAR on held-out training speakers.

    Its ``fit`` takes ``groups``, the speakers. Of equal values the first in the grid is taken; the estimator is then
    fitted on all training utterances.

    Args:
        estimator: by scikit-learn's conventions.
        grid: candidates by the name of the estimator's parameter.
    """
    from sklearn.model_selection import GridSearchCV

    return GridSearchCV(estimator, dict(grid), scoring=uar, cv=SpeakerFolds(), error_score="raise")
