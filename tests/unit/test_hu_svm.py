"""Local Hu moments cell by cell, the features that they weigh, and the machine that reads them."""

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch

from tests.helpers.features import numpy_deltas
from tests.helpers.utterances import made_up
from tfser.audio.files import Waveform
from tfser.features.local_hu import LOCAL_HU, LocalHu, concentration
from tfser.features.log_mel import FrontEnd
from tfser.models import hu_svm, svm


def defaults(**changes):
    return {name: h.default for name, h in LOCAL_HU.hyperparameters.items()} | changes


def first_hu_moment(energies, patch):
    """Of the region around each cell: the sum of its second central moments, its energies being shares."""
    half = patch // 2
    padded = np.pad(energies, half, mode="edge")
    found = np.empty_like(energies)
    for band, frame in np.ndindex(energies.shape):
        share = padded[band : band + patch, frame : frame + patch]
        share = share / share.sum()
        bands, frames = np.mgrid[:patch, :patch]
        spread = [((axis - (share * axis).sum()) ** 2 * share).sum() for axis in (bands, frames)]
        found[band, frame] = sum(spread)
    return found


@pytest.mark.parametrize("patch", [3, 5])
def test_the_weight_of_a_cell_is_the_first_hu_moment_of_the_region_around_it(patch):
    energies = np.random.default_rng(0).lognormal(sigma=2, size=(9, 13))
    found = concentration(torch.from_numpy(energies), patch).numpy()
    np.testing.assert_allclose(found, first_hu_moment(energies, patch), rtol=1e-9, atol=1e-12)
    louder = concentration(torch.from_numpy(1000 * energies), patch).numpy()
    np.testing.assert_allclose(louder, found, rtol=1e-9, atol=1e-12)


def test_even_energy_has_the_moment_of_a_square_and_a_single_cell_none():
    even = concentration(torch.ones(6, 6, dtype=torch.float64), 3)
    np.testing.assert_allclose(even.numpy(), 4 / 3)  # 2 * (1 + 0 + 1) / 3
    peak = torch.full((7, 7), 1e-12, dtype=torch.float64)
    peak[3, 3] = 1.0
    assert float(concentration(peak, 3)[3, 3]) < 1e-9


def test_a_row_has_seven_statistics_of_the_dct_of_weighted_log_mel_and_of_its_deltas():
    samples = (0.1 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)
    wave = Waveform(samples[None], 16000)
    mel = FrontEnd(n_mels=24, preemphasis=0.97, window=400)(wave).astype(np.float64).T
    cepstrum = scipy.fft.dct(mel * first_hu_moment(np.exp(mel), 3), norm="ortho", axis=0)[1:13]
    rows = np.concatenate([cepstrum, numpy_deltas(cepstrum.T).T])
    expected = np.stack(
        [
            rows.mean(axis=1), rows.std(axis=1), rows.min(axis=1), rows.max(axis=1), np.ptp(rows, axis=1),
            scipy.stats.skew(rows, axis=1), scipy.stats.kurtosis(rows, axis=1),
        ],
        axis=1,
    )  # fmt: skip
    found = LOCAL_HU.extractor(defaults())(wave)
    assert (found.shape, found.dtype) == ((1, 168), np.float32)
    np.testing.assert_allclose(found[0], expected.ravel(), rtol=1e-4, atol=1e-4)


def test_every_setting_of_the_features_gives_them_another_name():
    names = {LocalHu().id, LocalHu(patch=5).id, LocalHu(coefficients=8).id, LocalHu(mel=FrontEnd(n_mels=26)).id}
    assert len(names) == 4
    assert LOCAL_HU.extractor(defaults()) == LocalHu()


def test_a_sound_shorter_than_a_frame_gets_zeros_behind_it():
    found = LocalHu()(Waveform(np.full((1, 100), 0.1, dtype=np.float32), 16000))
    assert found.shape == (1, 168)
    assert np.isfinite(found).all()


def test_settings_that_do_not_fit_are_refused_in_words_all_at_once():
    assert LOCAL_HU.problems(defaults()) == []
    assert LOCAL_HU.problems(defaults(patch=4, coefficients=24)) == [
        "coefficients: 24 is not below n_mels 24",
        "patch: 4 is not odd, so that no cell is in its middle",
    ]


def test_the_machine_is_that_of_the_functionals():
    x, y, speakers = made_up()
    ours, theirs = (each.build("full", {}, 0).fit(x, y, groups=speakers) for each in (hu_svm, svm))
    np.testing.assert_array_equal(ours.decision_function(x), theirs.decision_function(x))
    assert ours.costs == (0.1, 1.0, 10.0, 100.0)
