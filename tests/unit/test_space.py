import pytest

from tfser import plan, resources, space
from tfser.errors import RequestError
from tfser.models import MODELS

KNOWN = {model: plan.hyperparameters(model) for model in MODELS}
HEAD = "model: time_frequency_transformer\n"


def read(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return space.read(path, KNOWN)


@pytest.mark.full
@pytest.mark.parametrize("path", sorted(resources.data_folder("search_spaces").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_space_is_legal_and_never_samples_what_the_model_refuses(path):
    shipped = space.read(path, KNOWN)
    architecture = MODELS[shipped.model]
    for ablation in architecture.ablations:
        found = space.refusals(shipped, plan.published_settings(shipped.model), lambda s, a=ablation: architecture.problems(a, s))
        assert found == []


@pytest.mark.parametrize("path", sorted(resources.data_folder("search_spaces").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_space_opens_with_its_question_and_the_command_that_runs_it(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Question  ")
    assert lines[1].startswith("# Run       python -m tfser.sweep ")
    assert lines[2].startswith("# Cost      ")


def test_every_problem_of_a_file_is_named_with_its_line(tmp_path):
    text = """model: time_frequency_transformer
fixd: {}
fixed:
  channels: many
search:
  channles: {choice: [1, 2]}
  channels: {choice: [1, 2]}
  learning_rate: {float: [1e-4, 0.1]}
  batch_size: {int: [64, 8]}
  dropout: {float: [0.0, 0.5], choice: [0.1]}
  time_heads: {choice: [2, 4], divides: n_mels / 4}
  weight_decay: {float: [0.0, 0.1], scale: log}
  kernel: {choice: []}
  seed: {choice: [1]}
"""
    with pytest.raises(RequestError) as caught:
        read(tmp_path, text)
    problems = "\n".join(caught.value.problems)
    for expected in (
        "line 2: fixd: key: no 'fixd'; there are fixed, model, search",
        "line 4: fixed.channels: 'many' is not a whole number",
        "line 6: search.channles: setting: no 'channles'",
        "did you mean 'channels'?",
        "line 7: search.channels: it is fixed above",
        "line 8: search.learning_rate.float: YAML reads 1e-4 as a word; write 1.0e-4",
        "line 9: search.batch_size.int: it has to be [low, high] with low below high, not [64, 8]",
        "line 10: search.dropout: it needs exactly one of choice",
        "line 11: search.time_heads.divides: it needs choice: with whole numbers, 1 among them",
        "line 12: search.weight_decay.scale: 'log': legal is linear or log; log needs a range above 0",
        "line 13: search.kernel.choice: it has to be a list that is not empty",
        "line 14: search.seed: setting: no 'seed'",
    ):
        assert expected in problems, expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has to be a mapping"),
        ("- a\n", "it has to be a mapping"),
        ("model: crnn\nsearch: {}\n", "no 'crnn'; there are atfnn, time_frequency_transformer"),
        (HEAD + "search: {}\n", "nothing is searched"),
        (HEAD + "search:\n  channels: {choice: [1]}\n  channels: {choice: [2]}\n", "stands twice"),
        (HEAD + "search: [channels\n", "expected"),
        (HEAD + "search: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        (HEAD + "search:\n  time_heads: {choice: [1, 2], divides: n_mels / 4}\n  n_mels: {choice: [40]}\n", "n_mels is searched below"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], when: {channels: [8]}}\n", "channels is not searched above"),
        (HEAD + "search:\n  class_weights: {int: [balanced, none], scale: log}\n", "class_weights takes choice: values"),
        (HEAD + "search:\n  channels: {int: [1, 8], step: 0.5}\n", "0.5: it has to be a whole number above 0"),
        (HEAD + "search:\n  channels: {int: [1, 8], step: 9}\n", "9 is wider than the range"),
        (HEAD + "search:\n  time_heads: {choice: [1, 2], divides: class_weights}\n", "it has to be a whole-number setting"),
        (HEAD + "search:\n  n_mels: {choice: [2020-13-45]}\n", "month must be in 1..12"),
        (HEAD + "search: &a {n_mels: *a}\n", "it holds itself"),
        ("[" * 3000, "recursion"),
        (HEAD + "search:\n  preemphasis: {float: [0.0, 0.9]}\n", "every value needs features of its own"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, text, message):
    with pytest.raises(RequestError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


class Fixed:
    """Answers like Optuna's trial, with given parameters or the first legal value."""

    def __init__(self, **given):
        self.given, self.asked = given, []

    def suggest_categorical(self, name, choices):
        self.asked.append((name, tuple(choices)))
        return self.given.get(name, choices[0])

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self.asked.append((name, (low, high)))
        return self.given.get(name, low)

    suggest_float = suggest_int


def test_a_setting_is_searched_only_where_its_condition_holds(tmp_path):
    read_space = read(
        tmp_path,
        HEAD + "search:\n  class_weights: {choice: [none, balanced]}\n  dropout: {float: [0.1, 0.5], when: {class_weights: [balanced]}}\n",
    )
    base = plan.published_settings("time_frequency_transformer")
    assert read_space.sample(Fixed(class_weights="none"), base)["dropout"] == 0.0
    assert read_space.sample(Fixed(class_weights="balanced"), base)["dropout"] == 0.1


def test_choices_that_do_not_divide_are_never_offered_and_go_under_a_name_of_their_own(tmp_path):
    read_space = read(tmp_path, HEAD + "search:\n  n_mels: {choice: [40, 80]}\n  time_heads: {choice: [1, 2, 4, 5], divides: n_mels / 4}\n")
    base = plan.published_settings("time_frequency_transformer")
    narrow, wide = Fixed(n_mels=40), Fixed(n_mels=80)
    read_space.sample(narrow, base)
    read_space.sample(wide, base)
    assert narrow.asked[1] == ("time_heads of 1, 2, 5", (1, 2, 5))
    assert wide.asked[1] == ("time_heads", (1, 2, 4, 5))


def test_a_study_begins_with_the_published_setting_or_the_legal_one_nearest_to_it(tmp_path):
    read_space = read(
        tmp_path,
        HEAD
        + "search:\n  channels: {choice: [8, 48]}\n  learning_rate: {float: [2.0e-3, 1.0e-2]}\n"
        + "  batch_size: {int: [10, 60], step: 20}\n",
    )
    first = read_space.first(plan.published_settings("time_frequency_transformer"))
    assert first == {"channels": 48, "learning_rate": 0.002, "batch_size": 50}
    shipped = space.read(resources.data_folder("search_spaces") / "time_frequency_transformer.yaml", KNOWN)
    published = plan.published_settings("time_frequency_transformer")
    assert all(published[name] == value for name, value in shipped.first(published).items())


def test_a_space_that_can_sample_what_the_model_refuses_is_found_before_a_start(tmp_path):
    read_space = read(tmp_path, HEAD + "search:\n  time_heads: {choice: [1, 3]}\n")
    problems = MODELS["time_frequency_transformer"].problems
    found = space.refusals(read_space, plan.published_settings("time_frequency_transformer"), lambda s: problems("T+F+TF", s))
    assert len(found) == 1
    assert "time_heads: 3 does not divide" in found[0]


def test_what_is_fixed_from_outside_is_no_longer_searched(tmp_path):
    read_space = read(tmp_path, HEAD + "search:\n  channels: {choice: [8, 16]}\n  dropout: {float: [0.0, 0.5]}\n")
    narrowed = read_space.without({"channels": 4})
    assert [d.name for d in narrowed.dimensions] == ["dropout"]
    assert narrowed.sample(Fixed(), plan.published_settings("time_frequency_transformer"))["channels"] == 4
    assert narrowed.digest != read_space.digest
