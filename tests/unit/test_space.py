from pathlib import Path

import pytest

from tfser.errors import RequestError
from tfser.models import MODELS
from tfser.planning import search_space, search_space_file
from tfser.planning.settings import hyperparameters, published_settings, setting_problems
from tfser.storage import packaged_files
from tfser.trial import Hyperparameter

KNOWN = {model: hyperparameters(model) for model in MODELS}
HEAD = "model: time_frequency_transformer\n"


def read(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return search_space_file.read(path, KNOWN)


@pytest.mark.full
@pytest.mark.parametrize(
    "path", sorted(packaged_files.data_folder("search_spaces").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_space_is_legal_and_never_samples_what_the_model_refuses(path):
    shipped = search_space_file.read(path, KNOWN)
    architecture = MODELS[shipped.model]
    for ablation in architecture.ablations:
        found = search_space.refusals(
            shipped,
            published_settings(shipped.model),
            lambda s, a=ablation: setting_problems(architecture, a, s),
        )
        assert found == []


@pytest.mark.parametrize(
    "path", sorted(packaged_files.data_folder("search_spaces").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_space_opens_with_its_question_and_the_command_that_runs_it(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Question  ")
    assert lines[1].startswith("# Run       python -m tfser.sweep ")
    assert any(line.startswith("# Cost      ") for line in lines[2:4])  # the command may take two lines


def test_every_problem_of_a_file_is_named_with_its_line(tmp_path):
    text = """model: time_frequency_transformer
fixd: {}
fixed:
  channels: many
search:
  channles: {choice: [1, 2]}
  channels: {choice: [1, 2]}
  learning_rate: {float: [1e-4, 20]}
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
        "line 8: search.learning_rate.float: 20 is not within 1e-07 to 10",
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
        ("model: xyz\nsearch: {}\n", f"no 'xyz'; there are {', '.join(sorted(KNOWN))}"),
        (HEAD + "search: {}\n", "nothing is searched"),
        (HEAD + "search:\n  channels: {choice: [1]}\n  channels: {choice: [2]}\n", "stands twice"),
        (HEAD + "search: [channels\n", "expected"),
        (HEAD + "search: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        (
            HEAD + "search:\n  time_heads: {choice: [1, 2], divides: n_mels / 4}\n  n_mels: {choice: [40]}\n",
            "n_mels is searched below",
        ),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], when: {channels: [8]}}\n", "channels is not searched above"),
        (
            HEAD + "search:\n  class_weights: {int: [balanced, none], scale: log}\n",
            "class_weights takes choice: values",
        ),
        (HEAD + "search:\n  channels: {int: [1, 8], step: 0.5}\n", "0.5: it has to be a whole number above 0"),
        (HEAD + "search:\n  channels: {int: [1, 8], step: 9}\n", "9 is wider than the range"),
        (
            HEAD + "search:\n  time_heads: {choice: [1, 2], divides: class_weights}\n",
            "it has to be a whole-number setting",
        ),
        (HEAD + "search:\n  n_mels: {choice: [2020-13-45]}\n", "'2020-13-45' is not a whole number"),
        (HEAD + "search:\n  n_mels: {choice: [2020-01-02]}\n", "'2020-01-02' is not a whole number"),
        (
            HEAD + "search:\n  n_mels: {choice: [010]}\n",
            "'010' is not a whole number; with a zero in front some readers count in eights",
        ),
        (HEAD + "search:\n  n_mels: {choice: [1:30]}\n", "'1:30' is not a whole number"),
        (HEAD + "search:\n  n_mels: {choice: [4_0]}\n", "'4_0' is not a whole number"),
        (HEAD + "search:\n  n_mels: {choice: [4e1]}\n", "40.0 is not a whole number; write 40"),
        (HEAD + "search:\n  n_mels: {choice: [yes]}\n", "line 3: search.n_mels.choice: 'yes' is not a whole number"),
        (HEAD + "search:\n  no: {choice: [8]}\n", "setting: no 'no'"),
        (HEAD + "search:\n  n_mels: {choice: [~]}\n", "None is not a whole number"),
        (HEAD + "search:\n  n_mels: {choice: [!!bool maybe]}\n", "line 3: 'maybe' is not true or false"),
        (HEAD + "search:\n  n_mels: {choice: [!!timestamp x]}\n", "could not determine a constructor"),
        (HEAD + "search:\n  n_mels: {choice: [!!int x]}\n", "line 3: 'x' is not a number"),
        (HEAD + f"search:\n  n_mels: {{choice: [{'9' * 400}]}}\n", "is beyond 9007199254740992"),
        (HEAD + f"search:\n  n_mels: {{choice: [0x{'f' * 5000}]}}\n", "is beyond 9007199254740992"),
        (HEAD + "search:\n  <<: {n_mels: {choice: [40]}}\n", "line 3: << (a merge key) is not read"),
        (
            HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: 1e-300}\n",
            "1e-300 cuts [0.0, 0.5] into more than 1000000 steps",
        ),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: .nan}\n", "nan: it has to be a number above 0"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: .inf}\n", "inf: it has to be a number above 0"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: 1e400}\n", "inf: it has to be a number above 0"),
        (HEAD + f"search:\n  dropout: {{float: [0.0, 0.5], step: 1{'0' * 400}}}\n", "is beyond 9007199254740992"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: -1}\n", "-1: it has to be a number above 0"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: 0}\n", "0: it has to be a number above 0"),
        (HEAD + "search:\n  dropout: {float: [0.0, 0.5], step: true}\n", "True: it has to be a number above 0"),
        (HEAD + "search:\n  dropout: {float: [.nan, 0.5]}\n", "nan is not a finite number"),
        (HEAD + "search:\n  dropout: {float: [0.5, 0.5]}\n", "low below high"),
        (HEAD + "search:\n  dropout: {float: [-0.5, 0.5], scale: log}\n", "-0.5 is not within 0 to 0.9"),
        (HEAD + "search:\n  dropout: {float: [0.1, 0.5], scale: [log]}\n", "['log']: legal is linear or log"),
        (
            HEAD + f"search:\n  time_heads: {{choice: [1, 2], divides: n_mels / {'9' * 5000}}}\n",
            "it has to be a whole-number setting",
        ),
        (
            HEAD + "search:\n  channels: {choice: [1]}\n  dropout: {float: [0.0, 0.5], when: {channels: []}}\n",
            "to lists of values",
        ),
        (HEAD + "search:\n  channels: {choice: [8, 8]}\n", "a choice stands twice in [8, 8]"),
        (f"model: {'x' * 100000}\n", f"there are {', '.join(sorted(KNOWN))}"),
        (HEAD + "# " + "x" * (256 << 10), "it is larger than 256 KiB"),
        ("{a: " * 3000, "line 1: it is nested more than 50 levels deep"),
        (HEAD + "search: &a {n_mels: *a}\n", "it holds itself"),
        ("[" * 3000, "recursion"),
        (HEAD + "search:\n  preemphasis: {float: [0.0, 0.9]}\n", "every value needs features of its own"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, text, message):
    with pytest.raises(RequestError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_number_without_a_point_is_read_as_the_number_that_it_is(tmp_path):
    text = "search:\n  learning_rate: {float: [1e-4, 1E-1], scale: log}\n  dropout: {choice: [.5, 1.e-1, 0]}\n"
    text += "  feed_forward: {choice: [1_000, 0o17, 0x1F]}\n"
    found = {d.name: d.values for d in read(tmp_path, HEAD + text).dimensions}
    assert found == {"learning_rate": (0.0001, 0.1), "dropout": (0.5, 0.1, 0), "feed_forward": (1000, 15, 31)}
    dotted = "search:\n  learning_rate: {float: [1.0e-4, 1.0e-1], scale: log}\n"
    short = "search:\n  learning_rate: {float: [1e-4, 1e-1], scale: log}\n"
    assert read(tmp_path, HEAD + dotted).digest == read(tmp_path, HEAD + short).digest


def test_yes_and_no_are_true_and_false_for_a_setting_that_is_one_of_the_two_and_words_elsewhere(tmp_path):
    known = {
        "m": {
            "gated": Hyperparameter(default=True, help=""),
            "norm": Hyperparameter(default="on", choices=("on", "no"), help=""),
        }
    }
    path = tmp_path / "space.yaml"
    path.write_text("model: m\nsearch:\n  gated: {choice: [yes, Off]}\n  norm: {choice: [on, no]}\n")
    assert [d.values for d in search_space_file.read(path, known).dimensions] == [(True, False), ("on", "no")]


def test_a_file_of_aliases_of_aliases_is_refused_before_it_is_followed(tmp_path):
    levels = [f"  x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(
        RequestError, match=r"line 7: it holds more than 20000 values \(an alias counts as all that it stands for\)"
    ):
        read(tmp_path, "\n".join([HEAD + "search:", "  x0: &x0 [1, 2, 3]", *levels]))
    few = (
        "fixed: {channels: &width 8}\nsearch:\n  time_heads: {choice: [1, 2]}\n  feed_forward: {choice: [*width, 16]}\n"
    )
    assert read(tmp_path, HEAD + few).dimensions[1].values == (8, 16)


def test_a_range_of_whole_numbers_is_never_written_out(tmp_path):
    known = {"m": {"width": Hyperparameter(default=4, help=""), "scale": Hyperparameter(default=1.0, help="")}}
    path = tmp_path / "space.yaml"
    path.write_text("model: m\nsearch:\n  width: {int: [-9007199254740992, 9007199254740992]}\n")
    wide = search_space_file.read(path, known)
    assert search_space.refusals(wide, {"width": 4}, lambda settings: []) == []
    path.write_text("model: m\nsearch:\n  scale: {float: [-1.7e308, 1.7e308]}\n")
    with pytest.raises(RequestError, match="is wider than any number"):
        search_space_file.read(path, known)


def test_a_file_with_a_byte_order_mark_is_read_and_other_encodings_are_named(tmp_path):
    text = HEAD + "search:\n  channels: {choice: [8, 16]}\n"
    path = tmp_path / "space.yaml"
    path.write_bytes(text.encode("utf-8-sig"))
    assert search_space_file.read(path, KNOWN).dimensions[0].values == (8, 16)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(RequestError, match="line 1: byte 0xff is not UTF-8; save the file as UTF-8"):
        search_space_file.read(path, KNOWN)
    with pytest.raises(RequestError, match="it cannot be read: Is a directory"):
        search_space_file.read(tmp_path, KNOWN)
    with pytest.raises(RequestError, match="it is larger than 256 KiB"):
        search_space_file.read(Path("/dev/zero"), KNOWN)


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
        HEAD
        + "search:\n  class_weights: {choice: [none, balanced]}\n"
        + "  dropout: {float: [0.1, 0.5], when: {class_weights: [balanced]}}\n",
    )
    base = published_settings("time_frequency_transformer")
    assert read_space.sample(Fixed(class_weights="none"), base)["dropout"] == 0.0
    assert read_space.sample(Fixed(class_weights="balanced"), base)["dropout"] == 0.1


def test_choices_that_do_not_divide_are_never_offered_and_go_under_a_name_of_their_own(tmp_path):
    read_space = read(
        tmp_path,
        HEAD + "search:\n  n_mels: {choice: [40, 80]}\n  time_heads: {choice: [1, 2, 4, 5], divides: n_mels / 4}\n",
    )
    base = published_settings("time_frequency_transformer")
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
    first = read_space.first(published_settings("time_frequency_transformer"))
    assert first == {"channels": 48, "learning_rate": 0.002, "batch_size": 50}
    shipped = search_space_file.read(
        packaged_files.data_folder("search_spaces") / "time_frequency_transformer.yaml", KNOWN
    )
    published = published_settings("time_frequency_transformer")
    assert all(published[name] == value for name, value in shipped.first(published).items())


def test_a_space_that_can_sample_what_the_model_refuses_is_found_before_a_start(tmp_path):
    read_space = read(tmp_path, HEAD + "search:\n  time_heads: {choice: [1, 3]}\n")
    problems = MODELS["time_frequency_transformer"].problems
    found = search_space.refusals(
        read_space, published_settings("time_frequency_transformer"), lambda s: problems("T+F+TF", s)
    )
    assert len(found) == 1
    assert "time_heads: 3 does not divide" in found[0]


def test_what_is_fixed_from_outside_is_no_longer_searched(tmp_path):
    read_space = read(tmp_path, HEAD + "search:\n  channels: {choice: [8, 16]}\n  dropout: {float: [0.0, 0.5]}\n")
    narrowed = read_space.without({"channels": 4})
    assert [d.name for d in narrowed.dimensions] == ["dropout"]
    assert narrowed.sample(Fixed(), published_settings("time_frequency_transformer"))["channels"] == 4
    assert narrowed.digest != read_space.digest
