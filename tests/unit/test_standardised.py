"""The transformer that standardises, clips and drops, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tests.helpers.utterances import made_up
from tfser.models.standardised import Standardised


def test_values_are_scikit_learns_clipped_at_eight_deviations_without_constant_columns():
    x = made_up()[0].copy()
    x[:, [3, 7]] = [0.1, -2e10]  # constant: their mean in floating point is not quite their value
    x[0, 5] = 1e12
    moving = np.delete(x, [3, 7], axis=1)
    scaler = StandardScaler().fit(moving.astype(np.float64))
    fitted = Standardised().fit(x)
    expected = scaler.transform(moving.astype(np.float64))
    assert np.abs(expected).max() > 8
    np.testing.assert_allclose(fitted.transform(x), np.clip(expected, -8, 8), rtol=1e-9)
    assert fitted.transform(x).dtype == np.float64
    other = x[:3] + 1e13
    np.testing.assert_array_equal(fitted.transform(other), np.full((3, 18), 8.0))


def test_features_that_never_move_are_refused_in_words():
    with pytest.raises(ValueError, match="the same in all training utterances"):
        Standardised().fit(np.ones((4, 2)))
