"""A GPU does as a CPU does: the same training but for rounding, the same bits twice, and errors that are understood."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch

from tests.helpers import small_trainings
from tests.helpers.models import SMALL
from tfser.execution import faults, run_trial
from tfser.execution.on_ray import gpu_share
from tfser.execution.this_machine import device
from tfser.features.base import loudness_of
from tfser.models import BUILT_IN, MODELS, PROPOSED, Network
from tfser.planning.settings import extractor, published_settings
from tfser.training.captured import CapturedStep
from tfser.training.determinism import settled, weights_digest
from tfser.training.together import FusedTraining
from tfser.training.training import Training, TrialData

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here"),
]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
EVERY_ABLATION = [(model, ablation) for model in PROPOSED for ablation in PROPOSED[model].ablations]
FULL = [(model, PROPOSED[model].ablations[0]) for model in PROPOSED]
BUILT = [(m.name, ablation) for m in BUILT_IN if isinstance(m, Network) for ablation in m.ablations]
every_ablation = pytest.mark.parametrize(("model", "ablation"), EVERY_ABLATION)
every_model = pytest.mark.parametrize(("model", "ablation"), FULL)

LOSSES = {"rtol": 1e-4, "atol": 1e-4}
"""Room for a few float32 steps of Adam, in nats; another order of a sum moves them by less."""


@functools.cache
def speech(bands):
    """Utterances of four speakers; the level of some bands says the emotion."""
    rng = np.random.default_rng(1)
    rows = [(i * 40, 40 - i % 3, i % 3) for i in range(24)]
    frames = rng.normal(size=(24 * 40, bands)).astype(np.float32)
    for start, length, emotion in rows:
        frames[start : start + length, emotion * 3 : emotion * 3 + 3] += 0.7
    return frames, rows


def training(model, ablation, on, seed=0, epochs=2, captured=False, **changes):
    values = {**published_settings(model), "batch_size": 8, "learning_rate": 0.003, **SMALL[model], **changes}
    frames, rows = speech(values["n_mels"])
    train, scored = tuple(rows[:18]), tuple(rows[18:])
    data = TrialData(
        frames=frames,
        emotions=("a", "b", "c"),
        train=train,
        scored=scored,
        speakers=tuple(f"speaker {start // 40 % 4}" for start, *_ in (*train, *scored)),
    )
    return Training(lambda: MODELS[model].build(ablation, values, 3), data, values, seed, epochs, on, captured=captured)


def trained(*words, **more):
    one = training(*words, **more)
    while one.epoch < one.epochs:
        one.run_epoch()
        one.validate()
    return one


@every_ablation
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_same_seed_gives_the_same_bits_twice(model, ablation, precision):
    first, again = (trained(model, ablation, GPU, precision=precision, dropout=0.1) for _ in range(2))
    assert weights_digest(first.model) == weights_digest(again.model)
    assert first.curves == again.curves
    np.testing.assert_array_equal(first.score().probabilities, again.score().probabilities)


@pytest.mark.parametrize(("model", "ablation"), BUILT)
def test_every_network_at_its_published_sizes_gives_the_same_bits_twice_and_the_cpus_logits_but_for_rounding(
    model, ablation
):
    if model == "ssl_head":
        pytest.skip("it needs weights that are not here")
    told = loudness_of(extractor(MODELS[model], published_settings(model)))
    data = dataclasses.replace(small_trainings.eight(model), loudness=told)
    first, again = (
        small_trainings.trained(small_trainings.training(model, ablation, data, 2, on=GPU)) for _ in range(2)
    )
    assert weights_digest(first.model) == weights_digest(again.model)
    assert first.curves == again.curves
    network, x = small_trainings.built(model, ablation).eval(), small_trainings.noise(model, ablation)
    with settled(GPU), torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(network).to(GPU)(x.to(GPU)).cpu(), network(x), rtol=1e-3, atol=1e-4)


@every_ablation
def test_a_training_is_the_cpus_but_for_rounding(model, ablation):
    ours, theirs = (trained(model, ablation, on) for on in (GPU, CPU))
    np.testing.assert_allclose(ours.curves.train_loss, theirs.curves.train_loss, **LOSSES)
    np.testing.assert_allclose(ours.score().probabilities, theirs.score().probabilities, atol=5e-3)


@every_model
@pytest.mark.parametrize("kind", ["none", "utterance", "speaker"])
@pytest.mark.parametrize("rule", ["mean", "maximum", "statistics", "pyramid"])
def test_every_kind_of_standardisation_and_every_utterance_rule_is_the_cpus_but_for_rounding(
    model, ablation, kind, rule
):
    ours, theirs = (trained(model, ablation, on, standardisation=kind, utterance_rule=rule) for on in (GPU, CPU))
    np.testing.assert_allclose(ours.curves.train_loss, theirs.curves.train_loss, **LOSSES)
    np.testing.assert_allclose(ours.score().probabilities, theirs.score().probabilities, atol=2e-2)


@every_ablation
@pytest.mark.parametrize(
    ("changed", "whole"), [({}, True), ({"time_mask": 3}, False), ({"schedule": "one_cycle"}, False)]
)
def test_a_captured_training_is_one_that_is_not_but_for_rounding(model, ablation, changed, whole):
    captured, plain = (trained(model, ablation, GPU, captured=how, epochs=3, **changed) for how in (True, False))
    assert isinstance(captured._captured, CapturedStep) == whole
    assert captured._captured is not None
    np.testing.assert_allclose(captured.curves.train_loss, plain.curves.train_loss, **LOSSES)
    np.testing.assert_allclose(captured.score().probabilities, plain.score().probabilities, atol=5e-3)


@every_model
def test_a_captured_training_with_dropout_gives_the_same_bits_twice_and_draws_anew_in_each_step(model, ablation):
    one, again = (trained(model, ablation, GPU, captured=True, dropout=0.1, epochs=3) for _ in range(2))
    assert weights_digest(one.model) == weights_digest(again.model)
    plain = trained(model, ablation, GPU, dropout=0.1, epochs=3)
    np.testing.assert_allclose(one.curves.train_loss, plain.curves.train_loss, rtol=0.2)


@every_ablation
def test_trainings_in_one_are_each_the_training_alone_but_for_rounding(model, ablation):
    alone = [trained(model, ablation, GPU, seed=seed) for seed in range(3)]
    members = [training(model, ablation, GPU, seed=seed) for seed in range(3)]
    together = FusedTraining(members)
    while together.members:
        for _, error in together.until_an_epoch_ends():
            assert error is None
    for one, other in zip(members, alone, strict=True):
        np.testing.assert_allclose(one.curves.train_loss, other.curves.train_loss, **LOSSES)
        np.testing.assert_allclose(one.score().probabilities, other.score().probabilities, atol=5e-3)


@every_model
@pytest.mark.parametrize("captured", [False, True])
def test_a_training_goes_on_from_its_state_as_if_it_had_not_been_interrupted(model, ablation, captured):
    whole = trained(model, ablation, GPU, epochs=3, captured=captured)
    begun = training(model, ablation, GPU, epochs=3, captured=captured)
    begun.run_epoch()
    rest = training(model, ablation, GPU, epochs=3, captured=captured)
    rest.restore(copy.deepcopy(begun.state()))
    while rest.epoch < rest.epochs:
        rest.run_epoch()
    assert weights_digest(whole.model) == weights_digest(rest.model)


@every_model
def test_bfloat16_stays_near_float32_and_moves_no_tensor_of_the_state(model, ablation):
    narrow, wide = (trained(model, ablation, GPU, precision=precision) for precision in ("bfloat16", "float32"))
    assert {t.dtype for t in narrow.model.state_dict().values() if t.is_floating_point()} == {torch.float32}
    np.testing.assert_allclose(narrow.curves.train_loss, wide.curves.train_loss, rtol=0.05)


@every_model
def test_the_attention_maps_of_a_gpu_are_the_cpus_but_for_rounding(model, ablation):
    declared, values = MODELS[model], {**published_settings(model), **SMALL[model]}
    torch.manual_seed(0)
    module = declared.build(ablation, values, 3).eval()
    x = torch.randn(2, 1, values["n_mels"], values["segment_frames"])
    with settled(GPU), torch.no_grad():
        theirs = declared.attention.maps(module, x, values)
        ours = declared.attention.maps(copy.deepcopy(module).to(GPU), x.to(GPU), values)
    assert ours.keys() == theirs.keys()
    for name, made in ours.items():
        np.testing.assert_allclose(made.cells, theirs[name].cells, atol=1e-5)


@every_model
def test_under_bfloat16_recurrences_and_norms_of_a_gpu_give_float32(model, ablation):
    one, given = training(model, ablation, GPU, precision="bfloat16", epochs=1), []
    for module in one.model.modules():
        if isinstance(module, (torch.nn.RNNBase, torch.nn.LayerNorm)):
            module.register_forward_hook(lambda m, i, o: given.append((o[0] if isinstance(o, tuple) else o).dtype))
    one.run_epoch()
    assert set(given) == {torch.float32}


def test_what_a_captured_training_leaves_in_a_circle_is_given_back_between_trials():
    trained("time_frequency_transformer", "T+F+TF", GPU, captured=True)  # the context, and cuBLAS's workspaces
    run_trial.give_back_memory()
    before = torch.cuda.memory_reserved()
    trained("time_frequency_transformer", "T+F+TF", GPU, captured=True)
    run_trial.give_back_memory()
    assert torch.cuda.memory_reserved() <= before


def test_too_little_memory_is_known_as_that_and_as_no_fault_of_the_machine():
    total = torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(RuntimeError) as error:
        torch.empty(2 * total, dtype=torch.uint8, device=GPU)
    assert faults.out_of_memory(error.value)
    assert not faults.of_the_device(error.value)


def test_the_device_of_a_trial_is_the_gpu_and_its_memory_is_measured():
    assert device().type == "cuda"
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total
    assert gpu_share.mps_is_on() in (True, False)


def test_the_memory_of_earlier_trainings_is_given_back():

    def peak():
        torch.cuda.reset_peak_memory_stats()
        trained("atfnn", "ATFNN", GPU, epochs=1)
        return torch.cuda.max_memory_allocated()

    first = peak()
    assert max(peak() for _ in range(10)) <= 1.01 * first
