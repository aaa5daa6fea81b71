"""What helps on small corpora does what its words say, and its absence changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tests.helpers.ingredients import ALL, INGREDIENTS
from tfser.models import MODELS, PROPOSED, Network
from tfser.planning.request import Request, never_together, problems
from tfser.planning.settings import HYPERPARAMETERS, extractor, hashed, published_settings, setting_problems
from tfser.training import ingredients
from tfser.training.masking import masks
from tfser.training.mixing import Mix
from tfser.training.sampling import Sampling
from tfser.training.together import FusedTraining
from tfser.training.training import Training, TrialData
from tfser.training.variation import Copy

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    **published_settings("time_frequency_transformer"),
    "n_mels": 8,
    "segment_frames": 16,
    "batch_size": 4,
    "learning_rate": 0.01,
}
EVERY = {**INGREDIENTS, "all at once": ALL}


class Net(nn.Module):
    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.drop(self.norm(self.conv(x)).relu().mean(dim=(2, 3))))
        return logits


def data(utterances: int = 12, per: int = 50, copies: int = 2) -> TrialData:
    """Utterances of noise by three speakers, more of the first emotion than of the others; half are scored.

    Copies are noise too, a little longer than the originals. The last two utterances are an inner speaker's.
    """
    random = np.random.default_rng(0)
    frames = random.normal(size=((utterances + 2) * per, 8)).astype(np.float32)
    rows = tuple((i * per, per - 7 * (i % 3), (0, 0, 1, 0, 2, 0)[i % 6]) for i in range(utterances + 2))
    speakers = (*("abc"[i % 3] for i in range(utterances)), "d", "d")
    half = utterances // 2
    places = tuple((i * 60, 60 - i, rows[i][2]) for i in range(half))
    made = tuple(Copy(random.normal(size=(half * 60, 8)).astype(np.float32), places) for _ in range(copies))
    return TrialData(
        frames=frames,
        emotions=("x", "y", "z"),
        train=rows[:half],
        scored=rows[half:utterances],
        speakers=speakers,
        copies=made,
        centres_hz=np.linspace(100.0, 4000.0, 8),
        inner=rows[utterances:],
    )


PARTS = {"copies": "augmented_copies", "inner": "inner_speakers"}
"""What ``tfser.execution.run_network`` gives a trial only with a setting."""


def training(epochs: int = 4, d: TrialData | None = None, build: Any = Net, **settings: Any) -> Training:
    made = d or data()
    without = {part: () for part, name in PARTS.items() if not settings.get(name)}
    if "inner" in without:
        without["speakers"] = made.speakers[: len(made.train) + len(made.scored)]
    return Training(build, replace(made, **without), {**SETTINGS, **settings}, 0, epochs, CPU)


def trained(epochs: int = 4, **settings: Any) -> Training:
    one = training(epochs, **settings)
    while one.epoch < epochs:
        one.run_epoch()
        one.validate()
    return one


def stepped(one: Training, epochs: int) -> list[dict[str, Any]]:
    """Train, and return what the optimiser saw and left in every step."""
    seen: list[dict[str, Any]] = []

    def before(*_: Any) -> None:
        gradients = [p.grad.clone() for p in one.model.parameters() if p.grad is not None]
        seen.append({"rate": one.optimizer.param_groups[0]["lr"], "gradients": gradients})

    one.optimizer.register_step_pre_hook(before)
    one.optimizer.register_step_post_hook(lambda *_: seen[-1].update(weights=copy(one.model)))
    for _ in range(epochs):
        one.run_epoch()
    return seen


def copy(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def same(one: Training, other: Training) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.weights().values(), other.weights().values(), strict=True))


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", EVERY)
def test_each_changes_a_training_and_goes_on_to_the_bit_where_it_was_interrupted(name, tmp_path):
    whole, plain = trained(**EVERY[name]), trained()
    assert same(whole, plain) == (name in ("shifted segments", "early end"))
    assert (whole.curves.inner_uar != []) == ("inner_speakers" in EVERY[name])
    if name == "shifted segments":
        assert not np.array_equal(whole.score().probabilities, plain.score().probabilities)
    half = training(**EVERY[name])
    for _ in range(2):
        half.run_epoch()
        half.validate()
    torch.save(half.state(), tmp_path / "state.pt")
    resumed = training(**EVERY[name])
    torch.manual_seed(5)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    while resumed.epoch < 4:
        resumed.run_epoch()
        resumed.validate()
    assert same(whole, resumed)
    assert whole.curves == resumed.curves
    np.testing.assert_array_equal(whole.score().probabilities, resumed.score().probabilities)


@pytest.mark.parametrize("name", EVERY)
def test_none_learns_anything_from_what_is_scored(name):
    honest = data()
    shifted = honest.frames.copy()
    for start, length, _ in honest.scored:
        shifted[start : start + length] = np.nan
    other = replace(honest, frames=shifted, scored=tuple((s, n, (e + 1) % 3) for s, n, e in honest.scored), beyond=())
    one, two = (training(d=d, **EVERY[name]) for d in (honest, other))
    for _ in range(3):
        one.run_epoch()
        two.run_epoch()
    assert same(one, two)


def test_none_is_in_the_id_of_a_trial_that_does_without_it():
    for name, h in ingredients.SETTINGS.items():
        assert HYPERPARAMETERS[name] is h
        assert h.implied == h.default
        assert h.problem(h.default) is None
    for model in PROPOSED.values():
        assert not {*ingredients.SETTINGS} & {*hashed(model, published_settings(model.name))}
        assert hashed(model, {**published_settings(model.name), **ALL}).items() >= {
            (name, value)
            for name, value in ALL.items()
            if value != ingredients.SETTINGS.get(name, None)
            and name in ingredients.SETTINGS
            and value != ingredients.SETTINGS[name].default
        }


@pytest.mark.parametrize("name", EVERY)
def test_each_is_legal_for_every_network(name):
    for model in MODELS.values():
        if isinstance(model, Network):
            settings = {**published_settings(model.name), **EVERY[name], "class_weights": "none"}
            if extractor(model, settings).band_centres_hz is None:
                settings["vtlp"] = 0.0
            if settings["utterance_rule"] == "whole":
                settings["scoring_hop"] = 0
            assert setting_problems(model, model.ablations[0], settings) == [], model.name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"schedule": "plateau"},
            "schedule: plateau watches speakers that are not trained on, and inner_speakers is 0",
        ),
        ({"ema_decay": 0.9, "swa_from": 3}, "ema_decay and swa_from are two averages, of which one can be scored"),
        (
            {"sampling": "emotions", "class_weights": "balanced"},
            "sampling: emotions with class_weights balanced makes rare emotions count twice",
        ),
        ({"scoring_hop": 4, "utterance_rule": "whole"}, "scoring_hop: 4 frames between segments, where"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_words(settings, said):
    model = MODELS["atfnn"]
    found = setting_problems(model, "ATFNN", {**published_settings("atfnn"), **settings})
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("label_smoothing", "1"), "--set label_smoothing: 1.0 is not within 0 to 0.99"),
        (("mixup_alpha", "-0.1"), "--set mixup_alpha: -0.1 is not within 0 to 100"),
        (("schedule", "cosin"), "--set schedule: 'cosin' is not one of constant, warmup, cosine"),
        (("sampling", "words"), "--set sampling: 'words' is not one of shuffled, emotions"),
        (("swa_from", "1.5"), "--set swa_from: '1.5' is not a whole number"),
    ],
)
def test_a_value_that_is_not_legal_is_refused_with_what_is(typed, said):
    found = problems(Request(fixed=(typed,)), {})
    assert any(said in problem for problem in found), found


def test_several_at_once_are_refused_in_words_where_a_typed_setting_trains_alone():
    typed = (("label_smoothing", "0.1"), ("scoring_hop", "8"), ("clip_norm", "0"))
    assert never_together(Request(models=("atfnn", "svm"), fixed=typed)) == [
        "--together: atfnn is trained one at a time with label_smoothing 0.1; leave out --together, or that"
    ]
    assert never_together(Request(models=("acrnn",), fixed=(("scoring_hop", "8"),))) == []


def test_an_estimator_has_none_and_says_why():
    found = problems(Request(models=("svm",), fixed=(("label_smoothing", "0.1"),)), {})
    assert found == [
        "--set label_smoothing: it is a setting of networks, which are trained in epochs; svm is an estimator and is "
        "fitted once"
    ]


@pytest.mark.parametrize("name", [name for name in EVERY if name != "shifted segments"])
def test_several_networks_are_not_trained_as_one_with_it(name):
    with pytest.raises(ValueError, match="a training with .* is done alone"):
        FusedTraining([training(**EVERY[name]), training(**EVERY[name])])


# ------------------------------------------------------------------ targets


@pytest.mark.usefixtures("in_float64")
def test_smoothed_and_mixed_targets_give_the_cross_entropy_with_the_mean_of_the_targets():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    other, share, e = np.array([3, 0, 1, 4, 2]), 0.7, 0.2
    target = (1 - e) * np.eye(3)[labels] + e / 3
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    smoothed = Mix().cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), None, e)
    assert float(smoothed) == pytest.approx(-(target * log_p).sum(axis=1).mean(), abs=1e-12)
    mix = Mix(torch.from_numpy(other), share)
    mixed = mix.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), None, e)
    both = share * target + (1 - share) * target[other]
    assert float(mixed) == pytest.approx(-(both * log_p).sum(axis=1).mean(), abs=1e-12)
    x = rng.normal(size=(5, 1, 2, 2))
    np.testing.assert_allclose(mix.inputs(torch.from_numpy(x)).numpy(), share * x + (1 - share) * x[other])


def test_the_share_of_a_mix_has_the_mean_and_variance_of_the_beta_distribution():
    torch.manual_seed(0)
    alpha = 0.4
    drawn = [Mix.drawn({"mixup_alpha": alpha}, 4, CPU) for _ in range(4000)]
    shares = np.array([mix.share for mix in drawn])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)
    assert all(sorted(mix.other.tolist()) == [0, 1, 2, 3] for mix in drawn if mix.other is not None)
    assert Mix.drawn({}, 4, CPU) == Mix()


# ------------------------------------------------------------------ schedules and gradients


def rates(epochs: int, **settings: Any) -> list[float]:
    return [step["rate"] for step in stepped(training(epochs, **settings), epochs)]


def test_the_rates_of_a_warm_up_and_of_a_cosine_are_those_of_their_formulas():
    constant = rates(4)
    steps = len(constant) // 4
    assert set(constant) == {0.01}
    rising = [0.01 * (i + 1) / (2 * steps) for i in range(2 * steps)]
    np.testing.assert_allclose(rates(4, schedule="warmup", warmup_epochs=2), rising + [0.01] * (2 * steps))
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.01)
    theirs, wanted = lr_scheduler.CosineAnnealingLR(optimizer, 2 * steps), []
    for _ in range(2 * steps):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(rates(2, schedule="cosine"), wanted)
    found = rates(4, schedule="cosine", schedule_epochs=2)
    np.testing.assert_allclose(found, wanted + [wanted[-1]] * (2 * steps), err_msg="after its end it stays")
    found = rates(4, schedule="warmup_cosine", warmup_epochs=2)
    np.testing.assert_allclose(found, rising + wanted)


def test_one_cycle_is_pytorchs_rate_and_momentum():
    one = training(3, schedule="one_cycle")
    found = stepped(one, 3)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs, wanted = lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=len(found)), []
    for _ in found:
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step() if len(wanted) < len(found) else None
    np.testing.assert_allclose([step["rate"] for step in found], wanted)
    assert one.optimizer.param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]


def test_longer_gradients_are_scaled_to_the_largest_norm_and_shorter_ones_left():
    norms = [np.sqrt(sum(float(g.square().sum()) for g in step["gradients"])) for step in stepped(training(), 2)]
    longest = float(np.median(norms))
    clipped = stepped(training(clip_norm=longest), 2)
    found = [np.sqrt(sum(float(g.square().sum()) for g in step["gradients"])) for step in clipped]
    assert found[0] == pytest.approx(min(norms[0], longest), rel=1e-4)
    assert max(found) <= longest * (1 + 1e-4)
    assert min(found) < longest * 0.99


# ------------------------------------------------------------------ averages


@pytest.mark.usefixtures("in_float64")
def test_a_moving_average_of_weights_and_statistics_is_what_is_scored_and_kept():
    one = training(ema_decay=0.7)
    steps = [step["weights"] for step in stepped(one, 2)]
    average = steps[0]
    for weights in steps[1:]:
        average = {name: 0.7 * average[name] + 0.3 * weights[name] for name in average}
    for name, value in one.weights().items():
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), average[name], rtol=1e-10, atol=1e-12, err_msg=name)
    plain = training()
    plain.model.load_state_dict(one.weights())
    np.testing.assert_array_equal(one.score().probabilities, plain.score().probabilities)
    assert not np.allclose(copy(one.model)["out.weight"], average["out.weight"])


@pytest.mark.usefixtures("in_float64")
def test_weight_averaging_takes_the_mean_of_the_epochs_and_the_statistics_of_all_training_segments():
    one = training(build=lambda: Net(dropout=0.0), swa_from=2)
    ends = []
    for _ in range(4):
        one.run_epoch()
        ends.append(copy(one.model))
        if one.epoch == 1:
            assert one.scorer.model is one.model
    found = {name: value.numpy() for name, value in one.weights().items()}
    for name in ("conv.weight", "norm.weight", "out.bias"):
        np.testing.assert_allclose(found[name], np.mean([end[name] for end in ends[1:]], axis=0), rtol=1e-10)
    means = [one.scorer.model.conv(x).mean(dim=(0, 2, 3)).detach().numpy() for x in one._inputs()]
    np.testing.assert_allclose(found["norm.running_mean"], np.mean(means, axis=0), rtol=1e-8)


# ------------------------------------------------------------------ segments


def sampled(name: str, draws: int = 300, **settings: Any) -> np.ndarray:
    """How often each segment was drawn."""
    of_utterance, emotion = np.array([0, 0, 0, 1, 2, 2, 3]), np.array([0, 0, 1, 1])
    sampling = Sampling({"sampling": name, **settings}, of_utterance, emotion, ("a", "b", "b", "b"))
    torch.manual_seed(0)
    orders = [sampling.order() for _ in range(draws)]
    assert all(len(order) == 7 for order in orders)
    return np.bincount(torch.cat(orders).numpy(), minlength=7) / (7 * draws)


@pytest.mark.parametrize("together", [1, 2])
def test_balanced_sampling_draws_emotions_speakers_or_their_pairs_alike_often(together):
    np.testing.assert_allclose(sampled("shuffled", segments_together=together), 1 / 7)
    emotions = sampled("emotions", segments_together=together)
    assert emotions[:4].sum() == pytest.approx(0.5, abs=0.05)
    speakers = sampled("speakers", segments_together=together)
    assert speakers[:3].sum() == pytest.approx(0.5, abs=0.05)
    pairs = sampled("emotions_and_speakers", segments_together=together)
    found = [pairs[:3].sum(), pairs[3], pairs[4:].sum()]
    np.testing.assert_allclose(found, 1 / 3, atol=0.08 if together > 1 else 0.05)


@pytest.mark.parametrize("together", [1, 2, 4, 8])
@pytest.mark.parametrize("sampling", ["emotions", "speakers", "emotions_and_speakers"])
def test_emotions_and_speakers_come_alike_often_where_the_utterances_of_one_are_eight_times_as_long(sampling, together):
    of_utterance = np.repeat(np.arange(40), [1] * 20 + [8] * 20)
    kind = np.repeat([0, 1], 20)
    settings = {"sampling": sampling, "segments_together": together}
    orders = Sampling(settings, of_utterance, kind, tuple("ab"[i] for i in kind))
    torch.manual_seed(0)
    drawn = torch.cat([orders.order() for _ in range(200)]).numpy()
    # Draws of groups of up to ``together`` segments: the standard deviation of a share is under 0.006.
    assert (of_utterance[drawn] < 20).mean() == pytest.approx(0.5, abs=0.03)


def test_speakers_are_needed_to_balance_them():
    with pytest.raises(ValueError, match="sampling speakers: 0 speakers of 6 utterances"):
        training(d=replace(data(), speakers=()), sampling="speakers")


def test_segments_of_an_utterance_stand_together_in_the_order_of_an_epoch():
    of_utterance = np.repeat(np.arange(20), 4)
    sampling = Sampling({"segments_together": 2}, of_utterance, np.zeros(20, dtype=np.int64), ())
    torch.manual_seed(0)
    order = sampling.order().numpy()
    assert sorted(order) == list(range(80))
    pairs = of_utterance[order].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert (pairs[1:, 0] != pairs[:-1, 0]).mean() > 0.7


def test_training_segments_overlap_by_their_own_hop_and_scores_average_over_shifted_segments():
    plain, overlapping = training(), training(training_hop=4)
    assert len(overlapping._train.frames) > 2 * len(plain._train.frames)
    np.testing.assert_array_equal(overlapping._scored.passes(None).__next__()[0], next(plain._scored.passes(None))[0])
    shifted = training(scoring_hop=4)
    assert len(shifted._train.frames) == len(plain._train.frames)
    for one in (plain, shifted):
        one.run_epoch()
    start, length, _ = plain.data.scored[0]
    starts = [*range(0, length - 16 + 1, 4), *([length - 16] * ((length - 16) % 4 > 0))]
    x = torch.stack([torch.from_numpy(plain.data.frames[start + s : start + s + 16]) for s in starts])
    plain.model.eval()
    with torch.no_grad():
        wanted = plain.model(plain.scorer.prepared(x)).softmax(dim=1).mean(dim=0)
    np.testing.assert_allclose(shifted.score().probabilities[0], wanted.numpy(), atol=1e-6)


def test_a_rule_with_a_classifier_is_fitted_on_segments_cut_as_those_that_are_scored():
    one = training(training_hop=4, utterance_rule="statistics", statistics_units=5)
    assert len(one._fitted.frames) < len(one._train.frames)
    one.run_epoch()
    assert np.isfinite(one.score().probabilities).all()


# ------------------------------------------------------------------ masks


def test_each_segment_gets_stripes_of_its_own_in_all_its_channels():
    settings = {"frequency_mask": 5, "time_mask": 6, "mask_per": "segment", "mask_count": 2}
    torch.manual_seed(0)
    x = torch.ones(40, 3, 12, 20)
    for mask in masks(settings):
        x = mask(x)
    assert x.shape == (40, 3, 12, 20)
    assert (x == x[:, :1]).all(), "channels differ"
    bands, frames = (x[:, 0] == 0).all(dim=2), (x[:, 0] == 0).all(dim=1)
    assert ((bands[:, :, None] | frames[:, None]) == (x[:, 0] == 0)).all(), "something else than stripes is masked"
    assert len({tuple(row.tolist()) for row in bands}) > 10
    assert 0 < bands.sum(dim=1).max() <= 2 * 4
    assert 0 < frames.sum(dim=1).max() <= 2 * 5


def test_masks_of_a_batch_are_the_same_for_all_its_segments():
    torch.manual_seed(0)
    x = torch.ones(8, 1, 12, 20)
    for mask in masks({"frequency_mask": 5, "time_mask": 6}):
        x = mask(x)
    assert (x == x[:1]).all()
