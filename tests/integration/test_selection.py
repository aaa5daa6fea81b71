"""Selection never sees the test speaker: the whole path, with the test speaker's labels permuted."""

import pytest

from tests.helpers import corpora
from tests.helpers.estimators import SVM, known
from tests.helpers.ingredients import ALL, set_words
from tests.helpers.sweeps import SPACE, arguments, read, runs_of
from tests.helpers.tiny import SET_SMALL, write_tiny
from tfser.execution import task
from tfser.storage.ledger import Ledger
from tfser.sweep import command

pytestmark = pytest.mark.usefixtures("blank_figures")

SEARCH = ("--trials", "4", "--space", str(SPACE), "--fold", "carl", "--name", "s", "--ablation", "T+F")


def permute_labels_of(speaker, manifest):
    """Shift that speaker's emotions by one utterance; the number of each stays the same."""
    header, *rows = manifest.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    own = [c for c in cells if c[1] == speaker]
    emotions = [c[2] for c in own]
    for cell, emotion in zip(own, emotions[3:] + emotions[:3], strict=True):
        cell[2] = emotion
    manifest.write_text("\n".join([header, *(",".join(c) for c in cells)]) + "\n")


def decisions(folder, *more):
    """Return a search's decisions for ``carl``: settings tried in order of time, the choice, epochs, final weights."""
    call = arguments(folder / "tiny.csv", folder / "out", *SEARCH, *more, epochs="6")
    assert command.main(call) == 0
    ledger = Ledger(folder / "out" / ".tfser" / "ledger")
    records = sorted((ledger.get(i) for i in ledger.ids()), key=lambda r: r.started_unix)
    searched = [r for r in records if r.spec.purpose == "search"]
    tried = [(r.spec.settings, r.spec.validation, r.curves.validation_uar) for r in searched]
    (final,) = (r for r in records if r.spec.purpose != "search")
    return tried, final.spec.settings, final.spec.epochs, final.weights_sha256, final.scores.uar


def decisions_of_an_estimator(folder, *more):
    """The same of a search for an estimator; instead of its weights, the probabilities of the test utterances."""
    space = folder / "space.yaml"
    space.write_text("model: tiny_svm\nsearch:\n  c: {float: [1.0e-3, 1.0e+3], scale: log}\n")
    words = [str(folder / "tiny.csv"), "--out", str(folder / "out"), "--in-process", "--model", "tiny_svm"]
    search = ["--trials", "4", "--space", str(space), "--fold", "carl", "--name", "s"]
    assert command.main([*words, *search, *more]) == 0
    ledger = Ledger(folder / "out" / ".tfser" / "ledger")
    records = sorted((ledger.get(i) for i in ledger.ids()), key=lambda r: r.started_unix)
    searched = [r for r in records if r.spec.purpose == "search"]
    tried = [(r.spec.settings, r.spec.validation, r.validation_uar, r.scores.utterances) for r in searched]
    (final,) = (r for r in records if r.spec.purpose != "search")
    return (
        tried,
        final.spec.settings,
        final.known_sound,
        [(u.id, u.p) for u in final.scores.utterances],
        final.scores.uar,
    )


def pair(tmp_path, *more, decide=decisions):
    """The decisions with honest labels, and with those of the test speaker permuted."""
    found = []
    for name in ("honest", "permuted"):
        manifest = write_tiny(tmp_path / name)
        if name == "permuted":
            permute_labels_of("carl", manifest)
        found.append(decide(tmp_path / name, *more))
    return found


@pytest.mark.parametrize(
    "more",
    [
        (),
        *(
            pytest.param(more, marks=pytest.mark.full)
            for more in (("--validation-folds", "2"), ("--selection", "global"))
        ),
    ],
    ids=lambda m: " ".join(m) or "nested",
)
def test_permuting_the_test_speakers_labels_changes_no_setting_no_epoch_and_no_weight(tmp_path, more):
    honest, permuted = pair(tmp_path, *more)
    assert honest[:4] == permuted[:4]
    assert honest[4] != permuted[4], "the permuted labels have to show in the test score, else this test shows nothing"


@pytest.mark.full
def test_permuting_the_test_speakers_labels_changes_nothing_of_a_search_with_all_that_helps_on_small_corpora(tmp_path):
    """``tests/unit/test_permuted_labels.py`` does it for each by itself, from the features on."""
    honest, permuted = pair(tmp_path, "--set", *set_words(ALL))
    assert honest[:4] == permuted[:4]


@pytest.mark.parametrize(
    "more",
    [(), pytest.param(("--selection", "global"), marks=pytest.mark.full)],
    ids=lambda m: " ".join(m) or "nested",
)
def test_permuting_the_test_speakers_labels_changes_no_setting_and_no_fit_of_an_estimator(tmp_path, more):
    with known(SVM):
        honest, permuted = pair(tmp_path, *more, decide=decisions_of_an_estimator)
    assert honest[:4] == permuted[:4]
    assert honest[4] != permuted[4], "the permuted labels have to show in the test score, else this test shows nothing"


def across(folder, names, *more):
    """Search with one corpus held out; return what was tried, the choice, epochs, the final fit, and what it knew."""
    manifests = corpora.write_corpora(folder, names)
    if folder.name == "permuted":
        corpora.permute_labels_of(manifests[0])
    (folder / "common.yaml").write_text(corpora.COMMON)
    (folder / "svm.yaml").write_text("model: tiny_svm\nsearch:\n  c: {float: [1.0e-3, 1.0e+3], scale: log}\n")
    words = [*map(str, manifests), "--out", str(folder / "out"), "--in-process", "--protocol", "corpus", "--name", "s"]
    kept = {"emotions": folder / "common.yaml", "fold": names[0]}
    if len(names) == 2:
        (folder / "common.yaml").write_text("\n".join(corpora.COMMON.splitlines()[:3]) + "\n")
    words += [word for name, value in kept.items() for word in (f"--{name}", str(value))]
    assert command.main([*words, *(str(folder / w) if w == "svm.yaml" else w for w in more)]) == 0
    ledger = Ledger(folder / "out" / ".tfser" / "ledger")
    records = sorted((ledger.get(i) for i in ledger.ids()), key=lambda r: r.started_unix)
    searched = [r for r in records if r.spec.purpose == "search"]
    tried = [(r.spec.settings, r.spec.validation, r.curves.validation_uar, r.scores.utterances) for r in searched]
    (final,) = (r for r in records if r.spec.purpose != "search")
    fit = "" if final.fitted else final.weights_sha256, [(u.id, u.p) for u in final.scores.utterances]
    right = [u.truth == final.scores.emotions[u.predicted] for u in final.scores.utterances]
    return tried, final.spec.settings, final.spec.epochs, fit, right


SMALL_SEARCH = ("--model", "time_frequency_transformer", "--ablation", "T+F", "--epochs", "3", "--trials", "2")
SMALL_SEARCH += ("--space", str(SPACE), "--set", *SET_SMALL)
SVM_SEARCH = ("--model", "tiny_svm", "--trials", "3", "--space", "svm.yaml")


@pytest.mark.parametrize(
    ("names", "more", "validated"),
    [
        (("north", "south"), SMALL_SEARCH, "south/anna"),
        (("north", "south", "west"), SVM_SEARCH, "south"),
        pytest.param(("north", "south", "west"), SMALL_SEARCH, "south", marks=pytest.mark.full),
    ],
    ids=["a network of two", "an estimator of three", "a network of three"],
)
def test_permuting_the_test_corpus_labels_changes_no_setting_no_epoch_and_no_weight(tmp_path, names, more, validated):
    with known(SVM):
        honest, permuted = (across(tmp_path / name, names, *more) for name in ("honest", "permuted"))
    assert honest[:4] == permuted[:4]
    assert {name for _, validation, *_ in honest[0] for name in validation} == {validated}
    assert not any(u.id.startswith(f"{names[0]}/") for *_, scored in honest[0] for u in scored)
    assert honest[4] != permuted[4], "the permuted labels have to show in the test score, else this test shows nothing"


@pytest.mark.full
@pytest.mark.parametrize("leak", ["training", "validation"])
def test_a_side_that_holds_the_test_corpus_is_caught_by_that_test(tmp_path, monkeypatch, leak):
    def leaky(pack, spec):
        from tfser.evaluation import folds

        train, scored = folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)
        test = [i for i, u in enumerate(pack.utterances) if u.corpus == spec.fold]
        if leak == "training":
            return train + test, scored
        return train, test if spec.purpose == "search" else scored

    monkeypatch.setattr(task, "sides", leaky)
    three = ("north", "south", "west")
    with known(SVM):
        honest, permuted = (across(tmp_path / name, three, *SVM_SEARCH) for name in ("honest", "permuted"))
    assert honest[:4] != permuted[:4]


@pytest.mark.full
def test_an_estimators_training_side_that_holds_the_test_speaker_is_caught_by_that_test(tmp_path, monkeypatch):
    def leaky(pack, spec):
        from tfser.evaluation import folds

        train, scored = folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)
        return train + [i for i, u in enumerate(pack.utterances) if u.speaker == spec.fold], scored

    monkeypatch.setattr(task, "sides", leaky)
    with known(SVM):
        honest, permuted = pair(tmp_path, decide=decisions_of_an_estimator)
    assert honest[3] != permuted[3]


@pytest.mark.full
def test_a_selector_that_looks_at_the_test_speaker_is_caught_by_that_test(tmp_path, monkeypatch):
    def leaky(pack, spec):
        from tfser.evaluation import folds

        train, scored = folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)
        test = [i for i, u in enumerate(pack.utterances) if u.speaker == spec.fold]
        return train, test if spec.purpose == "search" else scored

    monkeypatch.setattr(task, "sides", leaky)
    honest, permuted = pair(tmp_path)
    assert honest[:4] != permuted[:4]


@pytest.mark.full
def test_a_training_side_that_holds_the_test_speaker_is_caught_by_that_test(tmp_path, monkeypatch):
    def leaky(pack, spec):
        from tfser.evaluation import folds

        train, scored = folds.split(pack.utterances, spec.protocol, spec.fold, spec.validation)
        return train + [i for i, u in enumerate(pack.utterances) if u.speaker == spec.fold], scored

    monkeypatch.setattr(task, "sides", leaky)
    honest, permuted = pair(tmp_path)
    assert honest[3] != permuted[3]


@pytest.mark.full
def test_the_oracle_does_look_and_says_so_everywhere(tiny_manifest, tmp_path, capsys):
    call = arguments(tiny_manifest, tmp_path, "--name", "o", "--selection", "oracle", "--ablation", "T+F", epochs="6")
    assert command.main(call) == 0
    folds = read(tmp_path / "o", "folds.csv")
    assert set(folds.selection) == {"oracle"}
    honest = arguments(tiny_manifest, tmp_path, "--name", "h", "--ablation", "T+F", epochs="6")
    assert command.main(honest) == 0
    last = read(tmp_path / "h", "folds.csv")
    assert (folds.uar.to_numpy() >= last.uar.to_numpy()).all()
    assert set(folds.trial_id).isdisjoint(last.trial_id)
    assert "oracle" in capsys.readouterr().out
    for name in ("comparison.md", "details.md", "comparison.tex"):
        assert "oracle" in (tmp_path / "o" / name).read_text()
    tags = [r.data.tags for r in runs_of(tmp_path)[1] if r.data.tags["tfser.sweep"] == "o"]
    assert {t["tfser.selection"] for t in tags} == {"oracle"}


@pytest.mark.full
def test_pruning_ends_trials_that_fall_behind_and_they_reach_no_ledger_and_no_table(tiny_manifest, tmp_path, capsys):
    wide = tmp_path / "wide.yaml"
    wide.write_text(
        "model: time_frequency_transformer\nsearch:\n  learning_rate: {float: [1.0e-6, 1.0e-1], scale: log}\n"
    )
    search = ["--ablation", "T+F", "--trials", "10", "--space", str(wide)]
    call = arguments(tiny_manifest, tmp_path, *search, "--name", "p", epochs="8")
    assert command.main(call) == 0
    out = capsys.readouterr().out
    pruned = out.count("behind its study, ended after epoch")
    assert pruned
    assert "Pruning ended search trials that fell behind and spared" in out
    ledger = Ledger(tmp_path / ".tfser" / "ledger")
    assert len(ledger.ids()) == 4 * 10 + 4 - pruned
    assert len(read(tmp_path / "p", "folds.csv")) == 4
    assert command.main(call) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    unpruned = [*search, "--no-pruning", "--name", "n"]
    assert command.main(arguments(tiny_manifest, tmp_path, *unpruned, epochs="8")) == 0
    assert "behind its study" not in capsys.readouterr().out
