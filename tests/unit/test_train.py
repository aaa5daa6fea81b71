import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tfser.errors import TrialError
from tfser.models import MODELS, PROPOSED
from tfser.planning.settings import hashed, published_settings
from tfser.training import captured, determinism
from tfser.training.training import Training, TrialData, batches

CPU = torch.device("cpu")
SETTINGS = {
    **published_settings("time_frequency_transformer"),
    "n_mels": 8,
    "segment_frames": 8,
    "batch_size": 4,
    "learning_rate": 0.01,
}


def data(frames=None, utterances=12, per=20, emotions=3, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(utterances * per, 8)).astype(np.float32) if frames is None else frames
    rows = tuple((i * per, per - i % 3, i % emotions) for i in range(utterances))
    names = tuple(f"e{i}" for i in range(emotions))
    return TrialData(frames=frames, emotions=names, train=rows[: utterances // 2], scored=rows[utterances // 2 :])


class Net(nn.Module):
    def __init__(self, emotions=3, dropout=0.3):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(4, emotions)

    def forward(self, x):
        return self.out(self.drop(self.norm(self.conv(x)).relu().mean(dim=(2, 3))))


def trained(epochs=3, settings=SETTINGS, d=None, seed=0):
    training = Training(Net, d or data(), settings, seed, epochs, CPU)
    for _ in range(epochs):
        training.run_epoch()
        training.validate()
    return training


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    )


def test_the_same_seed_gives_the_same_numbers_whatever_ran_before_in_this_process():
    first = trained()
    torch.manual_seed(99)
    torch.rand(7)
    torch.set_num_threads(2)
    trained(seed=5)
    again = trained()
    torch.set_num_threads(1)
    assert same(first, again)
    np.testing.assert_array_equal(first.score().probabilities, again.score().probabilities)
    assert first.curves == again.curves


class Channels(Net):
    """Reads two channels, and refuses any other shape."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)

    def forward(self, x):
        assert x.shape[1:] == (2, 4, 8)
        return super().forward(x)


def test_frames_kept_as_float16_train_as_the_same_numbers_kept_as_float32_do():
    short = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float16)
    np.testing.assert_array_equal(
        trained(d=data(short)).score().probabilities, trained(d=data(short.astype(np.float32))).score().probabilities
    )


def test_a_network_gets_the_bands_of_the_first_channel_of_a_row_and_then_those_of_the_next():
    frames = np.arange(240 * 8).reshape(240, 8).astype(np.float32)
    settings = {**SETTINGS, "input_channels": 2}
    training = Training(Channels, data(frames), settings, 0, 1, CPU)
    training.run_epoch()
    (x,) = training._batch(torch.arange(8)[None])
    rows = (frames[:8] - training.mean) / training.std
    np.testing.assert_allclose(x.numpy(), [rows[:, :4].T, rows[:, 4:].T], rtol=1e-5)


def test_training_leaves_the_callers_random_state_threads_and_flags_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    threads, flag = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    trained(epochs=1)
    assert torch.equal(torch.rand(3), expected)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, flag)


def test_another_seed_gives_other_weights():
    assert not same(trained(seed=0), trained(seed=1))


def test_a_training_that_was_interrupted_ends_with_the_same_numbers_to_the_bit(tmp_path):
    whole = trained(epochs=5)
    half = trained(epochs=2)
    torch.save(half.state(), tmp_path / "state.pt")
    resumed = Training(Net, data(), SETTINGS, 0, 5, CPU)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    while resumed.epoch < 5:
        resumed.run_epoch()
        resumed.validate()
    assert same(whole, resumed)
    assert whole.curves == resumed.curves


def test_what_is_scored_changes_nothing_that_is_learnt():
    honest = data()
    relabelled = TrialData(
        frames=honest.frames,
        emotions=honest.emotions,
        train=honest.train,
        scored=tuple((s, n, (e + 1) % 3) for s, n, e in honest.scored),
    )
    assert same(trained(d=honest), trained(d=relabelled))


def test_standardisation_uses_the_training_utterances_alone():
    d = data()
    shifted = d.frames.copy()
    for start, length, _ in d.scored:
        shifted[start : start + length] += 100
    a, b = trained(epochs=1, d=d), trained(epochs=1, d=data(frames=shifted))
    np.testing.assert_array_equal(a.mean, b.mean)
    own = np.concatenate([d.frames[s : s + n] for s, n, _ in d.train]).astype(np.float64)
    np.testing.assert_allclose(a.mean, own.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(a.std, own.std(axis=0), atol=1e-6)


@pytest.mark.usefixtures("in_float64")
def test_an_utterances_scores_are_the_mean_of_its_segments_and_depend_on_no_other():
    d = data()
    training = trained(d=d)
    scores = training.score().probabilities
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
    alone = Training(
        Net, TrialData(frames=d.frames, emotions=d.emotions, train=d.train, scored=d.scored[2:3]), SETTINGS, 0, 3, CPU
    )
    alone.restore(training.state())
    np.testing.assert_array_equal(alone.score().probabilities[0], scores[2])
    np.testing.assert_allclose(training.score(at_once=5).probabilities, scores, atol=1e-12)


def test_the_recorded_loss_is_the_mean_over_segments():
    settings = {**SETTINGS, "learning_rate": 1e-7, "batch_size": 4}
    d = data(utterances=10)
    training = Training(lambda: Net(dropout=0.0), d, settings, 0, 1, CPU)
    x = training._batch(training._train.frames)
    training.model.train()
    labels = training._train.emotion[training._train.of_utterance]
    order = torch.randperm(
        len(labels), generator=torch.Generator().manual_seed(determinism.derived_seed(0, "epoch", 0))
    )
    expected = sum(
        nn.functional.cross_entropy(training.model(x[b]), labels[b], reduction="sum").item() for b in batches(order, 4)
    ) / len(labels)
    training.run_epoch()
    assert training.curves.train_loss[0] == pytest.approx(expected, rel=1e-4)


@given(st.integers(1, 200), st.integers(2, 50))
def test_batches_hold_everything_once_and_a_lone_segment_only_when_it_is_all_there_is(count, size):
    pieces = batches(torch.arange(count), size)
    assert torch.cat(pieces).tolist() == list(range(count))
    assert count == 1 or all(2 <= len(piece) <= size + 1 for piece in pieces)


def test_a_last_batch_of_one_does_not_crash_batch_normalisation():
    class ToOnePixel(Net):
        def forward(self, x):
            return self.out(self.norm(self.conv(x).mean(dim=(2, 3), keepdim=True)).flatten(1))

    d = data(utterances=6, per=8)
    d = TrialData(frames=d.frames, emotions=d.emotions, train=tuple((s, 8, e) for s, _, e in d.train), scored=d.scored)
    training = Training(ToOnePixel, d, {**SETTINGS, "batch_size": 2}, 0, 1, CPU)
    training.run_epoch()
    assert np.isfinite(training.curves.train_loss).all()


def test_a_loss_that_is_not_finite_fails_with_its_epoch():
    frames = data().frames.copy()
    training = Training(Net, data(frames=frames), {**SETTINGS, "learning_rate": 10.0}, 0, 3, CPU)
    training.run_epoch()
    with torch.no_grad():
        training.model.out.weight.fill_(float("nan"))
    with pytest.raises(TrialError, match=r"the loss was nan in epoch 2 of 3; a smaller learning_rate may help"):
        training.run_epoch()


def test_balanced_weights_make_each_emotion_count_the_same():
    d = data(utterances=12, emotions=3)
    train_rows = tuple((s, n, int(i == 0)) for i, (s, n, _) in enumerate(d.train))
    skewed = TrialData(frames=d.frames, emotions=("a", "b", "c"), train=train_rows, scored=d.scored)
    training = Training(Net, skewed, {**SETTINGS, "class_weights": "balanced"}, 0, 1, CPU)
    counts = torch.bincount(training._train.emotion[training._train.of_utterance], minlength=3)
    weighted = training._weights * counts
    assert weighted[0] == pytest.approx(float(weighted[1]))
    assert weighted[2] == 0
    assert float(weighted.sum()) == pytest.approx(len(training._train.of_utterance))


def test_specaugment_changes_training_and_not_scoring():
    plain, masked = trained(epochs=1), trained(epochs=1, settings={**SETTINGS, "frequency_mask": 4, "time_mask": 4})
    assert not same(plain, masked)
    masked.restore(plain.state())
    np.testing.assert_array_equal(masked.score().probabilities, plain.score().probabilities)


@pytest.mark.usefixtures("in_float64")
def test_adam_without_decay_is_what_trains():
    training = trained(epochs=1)
    reference = Training(Net, data(), SETTINGS, 0, 1, CPU)
    reference.optimizer = torch.optim.Adam(reference.model.parameters(), lr=SETTINGS["learning_rate"])
    reference.run_epoch()
    for a, b in zip(training.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-8)


@pytest.mark.usefixtures("in_float64")
def test_nadam_is_pytorchs_and_goes_on_where_it_stopped():
    settings = {**SETTINGS, "optimizer": "nadam"}
    training, reference, resumed = (Training(Net, data(), settings, 0, 2, CPU) for _ in range(3))
    reference.optimizer = torch.optim.NAdam(reference.model.parameters(), lr=SETTINGS["learning_rate"])
    for _ in range(2):
        resumed.restore(training.state())
        training.run_epoch()
        reference.run_epoch()
        resumed.run_epoch()
    for a, b, c in zip(*(t.model.parameters() for t in (training, reference, resumed)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-8)
        assert torch.equal(a, c)
    assert not same(training, trained(epochs=2))


def test_adam_stays_out_of_a_trials_id_and_another_optimiser_is_in_it():
    for model in PROPOSED.values():
        usual = published_settings(model.name)
        assert usual["optimizer"] == "adam"
        assert "optimizer" not in hashed(model, usual)
        assert hashed(model, {**usual, "optimizer": "nadam"})["optimizer"] == "nadam"
    with pytest.raises(ValueError, match="optimizer: no 'sgd'; there are adam, nadam"):
        Training(Net, data(), {**SETTINGS, "optimizer": "sgd"}, 0, 1, CPU)


@pytest.fixture
def graphs(monkeypatch):
    """What a CUDA graph does that a CPU can do too: (what is in it, number of segments) of each replay."""
    replayed = []

    def passes(module, sample):
        assert module.training
        for _ in range(3):
            module(*sample)
        module.register_forward_pre_hook(lambda module, inputs: replayed.append(("passes", len(inputs[0]))))
        return module

    def step(step, chosen):
        training = step.__self__
        for _ in range(captured.WARM_UP):
            loss = step(chosen).clone()

        def places():
            moments = [value for state in training.optimizer.state.values() for value in state.values()]
            return [tensor.data_ptr() for tensor in (*training.model.state_dict().values(), *moments)]

        recorded = places()

        def replay():
            assert places() == recorded, "a graph reads and writes where it was recorded"
            replayed.append(("step", len(chosen)))
            loss.copy_(step(chosen))

        return replay, loss

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", passes)
    monkeypatch.setattr(captured, "recorded", step)
    return replayed


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, "step"),
        ({"class_weights": "balanced"}, "step"),
        ({"standardisation": "utterance"}, "step"),
        ({"weight_decay": 0.1}, "step"),
        ({"time_mask": 3}, "passes"),
        ({"frequency_mask": 3}, "passes"),
        ({"mixup_alpha": 0.3}, "passes"),
        ({"schedule": "one_cycle"}, "passes"),
        ({"optimizer": "nadam"}, "passes"),
        ({"ema_decay": 0.9}, "passes"),
        ({"clip_norm": 0.1}, "passes"),
    ],
)
def test_captured_steps_undo_their_warm_up_and_leave_the_last_short_batch_alone(graphs, changed, holds):
    settings = {**SETTINGS, "batch_size": 5, **changed}
    d = data()
    training = Training(Net, d, settings, 0, 3, CPU, captured=True)
    for _ in range(3):
        training.run_epoch()
        training.validate()
    segments = len(training._train.frames)
    assert segments % 5 > 1
    assert graphs == [(holds, 5)] * (3 * (segments // 5))
    plain = trained(settings=settings, d=d)
    assert same(training, plain)
    assert training.curves == plain.curves
    assert all(not group.get("capturable") for group in training.optimizer.param_groups)


def test_a_captured_training_goes_on_from_its_state_with_a_graph_of_its_own(graphs):
    settings = {**SETTINGS, "batch_size": 5}
    d = data()
    begun, rest = (Training(Net, d, settings, 0, 3, CPU, captured=True) for _ in range(2))
    begun.run_epoch()
    rest.run_epoch()
    rest.run_epoch()
    rest.restore(copy.deepcopy(begun.state()))
    while rest.epoch < rest.epochs:
        rest.run_epoch()
    assert same(rest, trained(settings=settings, d=d))


def test_a_step_that_cannot_be_captured_leaves_the_network_as_it_was(graphs, monkeypatch):
    def failing(step, chosen):
        step(chosen)
        raise RuntimeError("operation not permitted when stream is capturing")

    settings = {**SETTINGS, "batch_size": 5}
    training = Training(Net, data(), settings, 0, 3, CPU, captured=True)
    training.run_epoch()
    before, moments = copy.deepcopy(training.model.state_dict()), copy.deepcopy(training.optimizer.state_dict())
    monkeypatch.setattr(captured, "recorded", failing)
    training.forget_capture()
    with pytest.raises(RuntimeError, match="capturing"):
        training.run_epoch()
    for tensor, was in zip(training.model.state_dict().values(), before.values(), strict=True):
        assert torch.equal(tensor, was)
    for state, was in zip(training.optimizer.state_dict()["state"].values(), moments["state"].values(), strict=True):
        assert all(torch.equal(state[name], was[name]) for name in was)


@pytest.mark.parametrize("model", ["time_frequency_transformer", "atfnn"])
def test_bfloat16_trains_float32_weights_to_nearly_the_same_loss(model):
    base = {**published_settings(model), "n_mels": 40, "segment_frames": 16, "batch_size": 4, "learning_rate": 0.001}
    small = {
        "channels": 4,
        "feed_forward": 8,
        "time_frequency_feed_forward": 8,
        "lstm_hidden": 4,
        "time_frequency_heads": 2,
    }
    settings = {name: small.get(name, value) for name, value in base.items()}
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(240, 40)).astype(np.float32)
    d = TrialData(
        frames=frames, emotions=("a", "b"), train=tuple((i * 20, 20, i % 2) for i in range(12)), scored=((0, 20, 0),)
    )
    losses = {}
    for precision in ("float32", "bfloat16"):
        ablation = MODELS[model].ablations[0]
        training = Training(
            lambda a=ablation: MODELS[model].build(a, settings, 2), d, {**settings, "precision": precision}, 0, 2, CPU
        )
        training.run_epoch()
        training.run_epoch()
        assert all(p.dtype == torch.float32 for p in training.model.parameters())
        losses[precision] = training.curves.train_loss
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_a_precision_is_set_inside_and_put_back_outside():
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [kind.fp32_precision for kind in kinds]
    for precision, wanted in (("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")):
        with determinism.settled(CPU, precision):
            assert [kind.fp32_precision for kind in kinds] == [wanted] * 3
        assert [kind.fp32_precision for kind in kinds] == before


class Changed(Net):
    """``Net`` with other logits."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x), x)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda logits, x: logits[:, :, None], r"shape \(4, 3, 1\) for 4 segments and 3 emotions"),
        (lambda logits, x: logits.mean(dim=0), r"shape \(3,\) for 4 segments"),
        (lambda logits, x: logits[:, [0, 1, 2, 0]], r"shape \(4, 4\) for 4 segments and 3 emotions"),
        (lambda logits, x: {"logits": logits}, "a dict for 4 segments and 3 emotions"),
        (lambda logits, x: logits.argmax(dim=1, keepdim=True).expand(-1, 3), "int64 for 4 segments"),
    ],
)
def test_what_is_no_logits_fails_the_trial_with_what_was_found_and_expected(change, said):
    training = Training(lambda: Changed(change), data(), SETTINGS, 0, 1, CPU)
    with pytest.raises(TrialError, match=f"forward returned {said}.*; it has to be floating-point logits of shape"):
        training.run_epoch()


def test_logits_of_another_shape_in_scoring_only_are_told_too():
    training = Training(
        lambda: Changed(lambda logits, x: logits if torch.is_grad_enabled() else logits[0]), data(), SETTINGS, 0, 1, CPU
    )
    training.run_epoch()
    with pytest.raises(TrialError, match=r"forward returned shape \(3,\) for \d segments"):
        training.score()


def test_random_numbers_of_numpy_python_and_scoring_follow_from_the_seed_too():
    def noisy(logits, x):
        return logits * (1 + np.random.random() + random.random() + torch.rand(len(x), 1))

    def one(seed):
        training = Training(lambda: Changed(noisy), data(), SETTINGS, seed, 1, CPU)
        training.run_epoch()
        return training

    first, before = one(0), (random.getstate(), np.random.get_state()[1].tolist())
    np.testing.assert_array_equal(first.score().probabilities, first.score().probabilities)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.random(), np.random.random(), torch.rand(3)
    again = one(0)
    assert same(first, again)
    np.testing.assert_array_equal(first.score().probabilities, again.score().probabilities)
    assert not same(first, one(1))


def test_what_a_network_prints_does_not_get_into_the_output(capsys):
    training = Training(lambda: Changed(lambda logits, x: (print("here"), logits)[1]), data(), SETTINGS, 0, 1, CPU)
    training.run_epoch()
    training.score()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("here") > 2
