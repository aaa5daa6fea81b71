"""A member of a fused training equals its training alone, whoever else is in it, and however it entered or left."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.tiny import SMALL
from tfser.errors import TrialError
from tfser.execution import run_trial
from tfser.models import MODELS, PROPOSED, atfnn
from tfser.models.stacked import StackedModel
from tfser.models.time_frequency_transformer import CPU_CHANNELS
from tfser.planning.settings import published_settings
from tfser.training.determinism import weights_digest
from tfser.training.together import OWN_SETTINGS, FusedTraining, fusion_key
from tfser.training.training import Training, TrialData
from tfser.trial import TrialSpec

CPU = torch.device("cpu")
EMOTIONS = ("a", "b", "c")
SIZES = {
    "time_frequency_transformer": {
        "channels": 4,
        "feed_forward": 8,
        "time_frequency_feed_forward": 8,
        "time_frequency_heads": 2,
    },
    "atfnn": {
        "channels": 4,
        "encoder_channels": 4,
        "lstm_hidden": 6,
        "lstm_layers": 2,
        "band_group": 4,
        "frame_group": 4,
    },
}
EVERY_ABLATION = [(model, ablation) for model in PROPOSED for ablation in PROPOSED[model].ablations]
FULL = [(model, PROPOSED[model].ablations[0]) for model in PROPOSED]
NOISY = {"time_mask": 5, "frequency_mask": 3, "class_weights": "balanced", "weight_decay": 0.1}
CLOSE = {"rtol": 1e-9, "atol": 1e-8}
"""Room for rounding in float64. A gradient that is only rounding is below 1e-15; Adam divides it by at least 1e-8,
which gives a step below 1e-7 of the learning rate, and 1e-9 in the tens of steps here."""

pytestmark = pytest.mark.usefixtures("in_float64")


def speech():
    """16 bands whose level says the emotion, 14 utterances of 38 to 40 frames."""
    rng = np.random.default_rng(1)
    rows = [(i * 40, 40 - i % 3, i % 3) for i in range(14)]
    frames = rng.normal(size=(14 * 40, 16)).astype(np.float32)
    for start, length, emotion in rows:
        frames[start : start + length, emotion * 4 : emotion * 4 + 4] += 0.7
    return frames, rows


FRAMES, ROWS = speech()


def training(model, ablation, fold=0, seed=0, epochs=2, **settings):
    """Of one of four folds, of which each has another number of segments."""
    train = [row for i, row in enumerate(ROWS) if i % 4 != fold]
    train, scored = train[: len(train) - fold], [row for i, row in enumerate(ROWS) if i % 4 == fold]
    data = TrialData(
        frames=FRAMES,
        emotions=EMOTIONS,
        train=tuple(train),
        scored=tuple(scored),
        speakers=tuple(f"speaker {start // 40 % 4}" for start, *_ in (*train, *scored)),
    )
    values = {
        **published_settings(model),
        "n_mels": 16,
        "segment_frames": 16,
        "batch_size": 8,
        "learning_rate": 0.003,
        **SIZES[model],
    }
    values.update(settings)
    return Training(lambda: MODELS[model].build(ablation, values, 3), data, values, seed, epochs, CPU)


def members(model, ablation, **settings):
    return [
        training(model, ablation, fold, seed, epochs, **settings)
        for fold, seed, epochs in ((0, 0, 2), (1, 1, 3), (2, 0, 1), (3, 4, 2))
    ]


def trained_together(trainings):
    together = FusedTraining(trainings)
    while together.members:
        for _, error in together.until_an_epoch_ends():
            assert error is None
    return trainings


def trained_alone(one):
    while one.epoch < one.epochs:
        one.run_epoch()
    return one


def assert_equal_but_for_rounding(one, other):
    """Parameters, running statistics, optimiser state, losses, scores: everything there is."""
    for (name, a), b in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **CLOSE)
        assert a.stride() == b.stride()
    mine, theirs = one.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for number in mine:
        assert torch.equal(mine[number]["step"], theirs[number]["step"])
        torch.testing.assert_close(mine[number]["exp_avg"], theirs[number]["exp_avg"], **CLOSE)
        torch.testing.assert_close(mine[number]["exp_avg_sq"], theirs[number]["exp_avg_sq"], **CLOSE)
    np.testing.assert_allclose(one.curves.train_loss, other.curves.train_loss, **CLOSE)
    np.testing.assert_allclose(one.score().probabilities, other.score().probabilities, **CLOSE)
    assert one.score().confusion.tolist() == other.score().confusion.tolist()


@pytest.mark.parametrize(
    ("model", "ablation"),
    [pytest.param(*each, marks=[] if each in FULL else pytest.mark.full) for each in EVERY_ABLATION],
)
def test_every_member_equals_its_training_alone(model, ablation):
    for together, alone in zip(trained_together(members(model, ablation)), members(model, ablation), strict=True):
        assert_equal_but_for_rounding(together, trained_alone(alone))


@pytest.mark.parametrize(
    ("model", "ablation", "reading"),
    [
        ("time_frequency_transformer", "T+F", {"pooling": "together", "deviation": "unbiased"}),
        ("atfnn", "ATFNN", {"attention_weights": "softmax", "band_token": "segment"}),
        ("atfnn", "ATFNN", {"attention_weights": "linear", "time_attention_from": "encoding"}),
    ],
)
def test_every_member_equals_its_training_alone_under_every_reading(model, ablation, reading):
    together = trained_together(members(model, ablation, **reading))
    for one, alone in zip(together, members(model, ablation, **reading), strict=True):
        assert_equal_but_for_rounding(one, trained_alone(alone))


@pytest.mark.parametrize(
    "changes",
    [
        {"standardisation": "utterance", "utterance_rule": "statistics", "statistics_units": 7},
        {"standardisation": "speaker", "utterance_rule": "maximum"},
        {"standardisation": "none", "utterance_rule": "pyramid"},
    ],
)
def test_every_member_equals_its_training_alone_by_every_rule_and_kind_of_standardisation(changes):
    model, ablation = FULL[0]
    together = trained_together(members(model, ablation, **changes))
    for one, alone in zip(together, members(model, ablation, **changes), strict=True):
        assert_equal_but_for_rounding(one, trained_alone(alone))
        assert one.weights().keys() == alone.weights().keys()


@pytest.mark.full
@pytest.mark.parametrize(("model", "ablation"), FULL)
def test_masks_dropout_and_class_weights_are_those_of_the_training_alone(model, ablation):
    for together, alone in zip(
        trained_together(members(model, ablation, dropout=0.3, **NOISY)),
        members(model, ablation, dropout=0.3, **NOISY),
        strict=True,
    ):
        assert_equal_but_for_rounding(together, trained_alone(alone))


def test_wide_encoders_which_a_cpu_computes_one_by_one_do_as_well():
    wide = {"channels": CPU_CHANNELS}
    both = zip(
        trained_together(members("time_frequency_transformer", "F+TF", **wide)),
        members("time_frequency_transformer", "F+TF", **wide),
        strict=True,
    )
    for together, alone in both:
        assert_equal_but_for_rounding(together, trained_alone(alone))


@pytest.mark.parametrize("ablation", atfnn.ABLATIONS)
@pytest.mark.parametrize("rows", [None, [8, 5, 2]])
def test_the_stacked_recurrence_of_gpus_gives_the_lstms_outputs_and_gradients(monkeypatch, ablation, rows):
    monkeypatch.setattr(atfnn.StackedRecurrence, "fits", staticmethod(lambda layer: isinstance(layer, atfnn.TEncoder)))
    settings = {**published_settings("atfnn"), "n_mels": 16, "segment_frames": 16, **SIZES["atfnn"]}
    models = [MODELS["atfnn"].build(ablation, settings, 3) for _ in range(3)]
    alone = [copy.deepcopy(model) for model in models]
    whole = StackedModel(models)
    x = torch.randn(3, 8, 1, 16, 16)
    logits = whole(x.flatten(0, 1), rows).view(3, 8, -1)
    counted = rows or [8, 8, 8]
    sum(out[:n].square().sum() for out, n in zip(logits, counted, strict=True)).backward()
    for member, (model, n) in enumerate(zip(alone, counted, strict=True)):
        expected = model(x[member, :n])
        torch.testing.assert_close(logits[member, :n], expected, **CLOSE)
        expected.square().sum().backward()
        for name, parameter in model.named_parameters():
            piece = whole._stacked.get(name)
            found = models[member].get_parameter(name).grad if piece is None else piece.of_one(whole.flat.grad[member])
            torch.testing.assert_close(found, parameter.grad, **CLOSE)


@pytest.mark.parametrize(("model", "ablation"), FULL)
def test_in_float32_gradients_together_are_as_near_to_those_of_float64_as_gradients_alone(model, ablation):
    torch.set_default_dtype(torch.float32)  # until the fixture ends
    settings = {**published_settings(model), "n_mels": 16, "segment_frames": 16, **SIZES[model]}
    torch.manual_seed(0)
    models = [MODELS[model].build(ablation, settings, 3).train() for _ in range(3)]
    x, labels = torch.randn(3, 8, 1, 16, 16), torch.arange(24).view(3, 8) % 3

    def alone(one, x, labels):
        one = copy.deepcopy(one).to(x.dtype)
        nn.functional.cross_entropy(one(x), labels).backward()
        return {name: parameter.grad.double() for name, parameter in one.named_parameters()}

    exact, single = (
        [alone(*each) for each in zip(models, of_type, labels, strict=True)] for of_type in (x.double(), x)
    )
    whole = StackedModel(models)
    sum(map(nn.functional.cross_entropy, whole(x.flatten(0, 1)).view(3, 8, -1), labels)).backward()

    def together(member, name):
        piece = whole._stacked.get(name)
        return models[member].get_parameter(name).grad if piece is None else piece.of_one(whole.flat.grad[member])

    found = [{name: together(member, name).double() for name in exact[member]} for member in range(3)]

    def error(gradients):
        return max(
            float((mine[name] - wanted[name]).abs().max())
            for mine, wanted in zip(gradients, exact, strict=True)
            for name in wanted
        )

    assert 0 < error(found) <= 10 * error(single), (
        "10: how far rounding in one order of the sums may be from rounding in another"
    )


def test_a_member_is_the_same_whoever_it_is_trained_with():
    model, ablation = FULL[0]
    first = trained_together([training(model, ablation, 1, 1, 3), training(model, ablation, 0, 7, 1)])[0]
    second = trained_together(
        [training(model, ablation, f, s, 2) for f, s in ((3, 3), (2, 2))] + [training(model, ablation, 1, 1, 3)]
    )[2]
    assert_equal_but_for_rounding(first, second)


def test_learning_rates_and_decays_are_each_members_own():
    model, ablation = FULL[0]
    settings = [
        {"learning_rate": 0.001},
        {"learning_rate": 0.01, "weight_decay": 0.5},
        {"learning_rate": 0.001, "weight_decay": 0.5},
    ]
    for together, own in zip(
        trained_together([training(model, ablation, **own) for own in settings]), settings, strict=True
    ):
        assert_equal_but_for_rounding(together, trained_alone(training(model, ablation, **own)))


@pytest.mark.full
def test_recalls_are_equal_to_the_printed_digit_after_tens_of_epochs():
    model, ablation = FULL[0]
    runs = [(0, 0, 30), (1, 1, 30)]
    for together, run in zip(trained_together([training(model, ablation, *run) for run in runs]), runs, strict=True):
        assert (
            together.score().confusion.tolist()
            == trained_alone(training(model, ablation, *run)).score().confusion.tolist()
        )


@pytest.mark.parametrize(("model", "ablation"), FULL)
def test_a_member_with_a_loss_that_is_not_finite_fails_alone(model, ablation):
    together = FusedTraining(trainings := members(model, ablation, **NOISY))
    with torch.no_grad():
        trainings[0].model.classifier.weight.fill_(math.nan)
    errors = []
    while together.members:
        errors += [(member, error) for member, error in together.until_an_epoch_ends() if error is not None]
    ((member, error),) = errors
    assert member is trainings[0]
    assert isinstance(error, TrialError)
    assert "the loss was nan in epoch 1 of 2; a smaller learning_rate may help" in str(error)
    for mine, alone in zip(trainings[1:], members(model, ablation, **NOISY)[1:], strict=True):
        assert_equal_but_for_rounding(mine, trained_alone(alone))


@pytest.mark.full
def test_a_member_that_is_removed_goes_on_alone_and_the_others_without_it():
    model, ablation = FULL[0]
    together = FusedTraining(trainings := members(model, ablation, **NOISY))
    (left, _), *_ = [ended for ended in together.until_an_epoch_ends() if ended[0].epoch < ended[0].epochs] or [
        (trainings[1], None)
    ]
    while left.epoch == 0:
        together.until_an_epoch_ends()
    together.remove(left)
    trained_alone(left)
    while together.members:
        together.until_an_epoch_ends()
    for mine, alone in zip(trainings, members(model, ablation, **NOISY), strict=True):
        assert_equal_but_for_rounding(mine, trained_alone(alone))


@pytest.mark.full
def test_a_saved_state_goes_on_alone_or_with_others_and_holds_one_member_only(tmp_path):
    model, ablation = FULL[0]
    together = FusedTraining([training(model, ablation, 0, seed, 4, **NOISY) for seed in range(3)])
    second = together.members[1]
    assert [member.epoch for member, _ in together.until_an_epoch_ends()] == [1, 1, 1]
    torch.save(second.state(), tmp_path / "state.pt")
    alone = training(model, ablation, 0, 1, 4, **NOISY)
    torch.save(alone.state(), tmp_path / "alone.pt")
    assert (tmp_path / "state.pt").stat().st_size < 3 * (tmp_path / "alone.pt").stat().st_size + 20000
    alone.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert weights_digest(alone.model) == weights_digest(second.model)
    trained_alone(alone)
    restored = training(model, ablation, 0, 1, 4, **NOISY)
    restored.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    trained_together([training(model, ablation, 3, 9, 2, **NOISY), restored])
    for mine in (alone, restored):
        assert_equal_but_for_rounding(mine, trained_alone(training(model, ablation, 0, 1, 4, **NOISY)))


def test_a_member_that_has_left_has_its_memory_to_itself():
    for member in trained_together(members(*FULL[0])):
        for value in member.model.state_dict().values():
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


def test_fusing_leaves_the_callers_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    trained_together(members(*FULL[0], **NOISY))
    assert torch.equal(torch.rand(3), expected)


def test_trainings_that_do_not_fit_together_are_refused_with_what_differs():
    model, ablation = FULL[0]
    with pytest.raises(
        ValueError, match=r"cannot be fused: they differ in batch_size, dropout; they may differ in learning_rate"
    ):
        FusedTraining([training(model, ablation), training(model, ablation, batch_size=4, dropout=0.5)])
    with pytest.raises(ValueError, match="their models differ"):
        FusedTraining([training(model, "T+F"), training(model, "F+TF")])


class Unknown(nn.Module):
    """A model that no layer here was written for: a convolution, a normalisation and a parameter of its own."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * self.scale

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.scale = self.Scale()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.scale(self.norm(self.conv(x)).relu()).mean(dim=(2, 3)))


def test_layers_that_have_no_other_form_are_computed_member_by_member():
    def unknown(seed):
        one = training(*FULL[0])
        return Training(Unknown, one.data, one.settings, seed, 2, CPU)

    for seed, together in enumerate(trained_together([unknown(seed) for seed in range(3)])):
        assert_equal_but_for_rounding(together, trained_alone(unknown(seed)))


# What a worker does with several tasks.


def task(pack, storage, *, fold="anna", seed=0, epochs=3, purpose="final", checkpoint_s=math.inf, bar=(), **settings):
    values = {**published_settings("time_frequency_transformer"), **SMALL, "time_mask": 4, **settings}
    spec = TrialSpec(
        database="tiny",
        database_digest=pack.database_digest,
        protocol="speaker",
        fold=fold,
        purpose=purpose,
        validation=("bert",) if purpose == "search" else (),
        model="time_frequency_transformer",
        ablation="T+F+TF",
        seed=seed,
        epochs=epochs,
        hyperparameters=tuple(sorted(values.items())),
    )
    return run_trial.Task(spec=spec, pack=pack.path, storage=storage, checkpoint_s=checkpoint_s, bar=bar)


def several(pack, storage, **options):
    """Folds, seeds, lengths, purposes and learning rates in one."""
    return [
        task(pack, storage, fold="anna", **options),
        task(pack, storage, fold="carl", seed=1, epochs=4, **options),
        task(pack, storage, fold="dora", purpose="search", epochs=2, learning_rate=0.01, **options),
        task(pack, storage, fold="carl", purpose="oracle", **options),
    ]


def assert_same_record(one, other):
    for name in ("spec", "status", "epochs", "parameters", "standardisation"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("war", "uar", "recalls", "confusion", "segments"):
        assert getattr(one.scores, name) == getattr(other.scores, name), name
    pairs = list(zip(one.scores.utterances, other.scores.utterances, strict=True))
    assert all(mine.id == theirs.id for mine, theirs in pairs)
    np.testing.assert_allclose([u.p for u, _ in pairs], [u.p for _, u in pairs], **CLOSE)
    for curve, values in dataclasses.asdict(one.curves).items():
        np.testing.assert_allclose(values, getattr(other.curves, curve), **CLOSE)


@pytest.mark.full
def test_tasks_that_are_run_together_get_the_entries_of_tasks_run_alone(pack, tmp_path):
    tasks = several(pack, tmp_path / "together")
    records = run_trial.run_together(tasks)
    for asked, record, alone in zip(tasks, records, several(pack, tmp_path / "alone"), strict=True):
        assert_same_record(record, run_trial.run(alone))
        assert asked.ledger.get(asked.spec.trial_id) == record
        assert record.machine.circumstances["trained_together"] == "4"
        if asked.spec.purpose != "search":
            kept, expected = (t.ledger.weights(t.spec.trial_id) for t in (asked, alone))
            for name in expected:
                torch.testing.assert_close(kept[name], expected[name], **CLOSE)
            size, solo_size = (t.ledger.weights_path(t.spec.trial_id).stat().st_size for t in (asked, alone))
            assert size == solo_size
    assert not list((tmp_path / "together" / "checkpoints").rglob("*.pt"))


def test_a_trial_that_fails_is_recorded_and_its_companions_go_on(pack, tmp_path, monkeypatch):
    tasks = [task(pack, tmp_path, seed=seed) for seed in range(3)]
    real = Training.end_epoch
    monkeypatch.setattr(
        Training, "end_epoch", lambda self, loss: real(self, math.nan if self.seed == 1 and self.epoch == 1 else loss)
    )
    first, second, third = run_trial.run_together(tasks)
    assert (first.status, second.status, third.status) == ("done", "failed", "done")
    assert "the loss was nan in epoch 2 of 3" in second.reason
    assert "TrialError" in (tmp_path / "logs" / f"{second.trial_id}.log").read_text()
    assert tasks[1].ledger.get(second.trial_id) == second


def test_a_trial_below_its_bar_is_pruned_and_its_companions_go_on(pack, tmp_path):
    pruned = task(pack, tmp_path, purpose="search", seed=1, bar=(1.1, 1.1))
    records = run_trial.run_together([task(pack, tmp_path, purpose="search"), pruned])
    assert [(r.status, r.epochs) for r in records] == [("done", 3), ("pruned", 1)]
    assert pruned.ledger.get(pruned.spec.trial_id) is None


@pytest.mark.full
@pytest.mark.parametrize("then", ["alone", "together", "with another"])
def test_trials_that_are_interrupted_together_go_on_from_their_own_checkpoints(pack, tmp_path, monkeypatch, then):
    tasks = [task(pack, tmp_path, seed=seed, epochs=4, checkpoint_s=0.0) for seed in range(2)]
    real = FusedTraining.until_an_epoch_ends

    def until_an_epoch_ends(self):
        if self.members[0].epoch == 2:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(FusedTraining, "until_an_epoch_ends", until_an_epoch_ends)
        with pytest.raises(KeyboardInterrupt):
            run_trial.run_together(tasks)
    if then == "alone":
        records = [run_trial.run(one) for one in tasks]
    elif then == "together":
        records = run_trial.run_together(tasks)
    else:
        records = [
            run_trial.run_together([one, task(pack, tmp_path, fold="dora", seed=5 + i)])[0]
            for i, one in enumerate(tasks)
        ]
    for record, seed in zip(records, range(2), strict=True):
        assert record.resumed_at_epoch == 2
        assert_same_record(record, run_trial.run(task(pack, tmp_path / "whole", seed=seed, epochs=4)))


def test_a_trial_that_was_interrupted_alone_goes_on_together(pack, tmp_path, monkeypatch):
    asked = task(pack, tmp_path, epochs=4, checkpoint_s=0.0)
    real = Training.run_epoch

    def run_epoch(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", run_epoch)
        with pytest.raises(KeyboardInterrupt):
            run_trial.run(asked)
    record, _ = run_trial.run_together([asked, task(pack, tmp_path, seed=1)])
    assert record.resumed_at_epoch == 2
    assert_same_record(record, run_trial.run(task(pack, tmp_path / "whole", epochs=4)))


def test_too_little_memory_for_so_many_is_said_as_such(pack, tmp_path, monkeypatch):
    def step(self, together):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(FusedTraining, "_step", step)
    with pytest.raises(MemoryError, match=r"Tried to allocate 2\.00 GiB"):
        run_trial.run_together([task(pack, tmp_path, seed=seed) for seed in range(2)])


def test_an_error_that_is_no_members_own_is_settled_by_training_each_alone(pack, tmp_path, monkeypatch):
    def step(self, together):
        raise RuntimeError("something that only happens to several")

    monkeypatch.setattr(FusedTraining, "_step", step)
    records = run_trial.run_together([task(pack, tmp_path, seed=seed) for seed in range(2)])
    assert [record.status for record in records] == ["done", "done"]
    assert "trained_together" not in records[0].machine.circumstances


def test_tasks_that_are_committed_already_or_asked_for_twice_are_trained_once(pack, tmp_path, monkeypatch):
    tasks = [task(pack, tmp_path, seed=seed) for seed in range(2)]
    there = run_trial.run(tasks[0])
    records = run_trial.run_together([*tasks, tasks[1]])
    assert records[0] == there
    assert records[1] is records[2]
    monkeypatch.setattr(FusedTraining, "until_an_epoch_ends", lambda self: pytest.fail("trained again"))
    assert run_trial.run_together(tasks) == records[:2]


def test_tasks_of_different_shape_are_refused(pack, tmp_path):
    with pytest.raises(
        ValueError, match="2 trials cannot be trained together: they differ in more than learning_rate, weight_decay"
    ):
        run_trial.run_together([task(pack, tmp_path), task(pack, tmp_path, batch_size=4)])


def test_trials_of_another_optimiser_are_never_trained_together(pack, tmp_path):
    tasks = [task(pack, tmp_path, seed=seed, optimizer="nadam") for seed in (0, 1)]
    assert len({fusion_key(t.spec) for t in tasks}) == 2
    with pytest.raises(ValueError, match="their optimiser is not Adam"):
        FusedTraining([training("atfnn", "ATFNN", optimizer="nadam") for _ in range(2)])


def test_the_key_leaves_out_what_members_may_differ_in_and_nothing_else(pack, tmp_path):
    spec = task(pack, tmp_path).spec
    same = {
        "fold": "bert",
        "purpose": "oracle",
        "seed": 9,
        "epochs": 77,
        "hyperparameters": tuple(
            (name, 0.5 if name == "learning_rate" else value) for name, value in spec.hyperparameters
        ),
    }
    for name, value in same.items():
        assert fusion_key(dataclasses.replace(spec, **{name: value})) == fusion_key(spec)
    for name in ("database", "database_digest", "model", "ablation"):
        assert fusion_key(dataclasses.replace(spec, **{name: "other"})) != fusion_key(spec)
    for changed, _ in spec.hyperparameters:
        other = tuple((name, "changed" if name == changed else value) for name, value in spec.hyperparameters)
        assert (fusion_key(dataclasses.replace(spec, hyperparameters=other)) == fusion_key(spec)) == (
            changed in OWN_SETTINGS
        )
