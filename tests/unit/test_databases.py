"""Every database of the registry on a tree of its real layout and counts."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import trees
from tfser.databases import KNOWN, examine, load, published_counts
from tfser.databases.base import counts
from tfser.databases.corpora.iemocap import speaker_of
from tfser.errors import RequestError

Tree = Callable[[str], Path]


@contextlib.contextmanager
def without(path: Path) -> Iterator[None]:
    """The tree as if one file were not there (cheaper than a copy of thousands)."""
    away = path.with_name(f".{path.name}")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


@contextlib.contextmanager
def with_extra(path: Path, content: bytes) -> Iterator[None]:
    """The tree with one more file."""
    created = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink()
        if created:
            path.parent.rmdir()


EACH = [
    pytest.param(name, marks=() if name in {"abc", "casia", "emodb", "iemocap"} else pytest.mark.full)
    for name in sorted(trees.TREES)
]
"""Every corpus; those of the papers, and the one that is free, in the fast tests."""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A corpus by name, made once; tests that change it take a copy."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = trees.TREES[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture
def copied(tree: Tree, tmp_path: Path) -> Tree:
    """A corpus by name, as a copy that may be changed (linked files, since none is written to in place)."""

    def get(name: str) -> Path:
        source = tree(name)
        return Path(shutil.copytree(source, tmp_path / source.name, copy_function=lambda a, b: Path(b).hardlink_to(a)))

    return get


@pytest.mark.parametrize("name", sorted(trees.TREES))
def test_a_complete_tree_gives_exactly_the_published_counts(name: str, tree: Tree) -> None:
    database = load(name, tree(name).parent)
    info = database.info
    assert database.complete
    assert database.name == name == info.name
    assert dict(Counter(u.emotion for u in database.utterances)) == info.expected_emotions
    assert len(database.utterances) == info.expected_utterances
    assert len(database.speakers) == (info.expected_speaker_count or len(info.expected_speakers))
    found = counts(database.utterances)
    for speaker, row in info.expected_speaker_emotions.items():
        assert {emotion: found[speaker][emotion] for emotion in row} == row


@pytest.mark.parametrize("name", sorted(trees.TREES))
def test_ids_are_unique_sorted_and_hold_no_absolute_path(name: str, tree: Tree) -> None:
    ids = [u.id for u in load(name, tree(name).parent).utterances]
    assert ids == sorted(set(ids))
    assert not any(i.startswith("/") or str(tree(name)) in i for i in ids)


@pytest.mark.parametrize("name", EACH)
def test_the_corpus_folder_itself_serves_as_data(name: str, tree: Tree) -> None:
    inside, above = load(name, tree(name)), load(name, tree(name).parent)
    assert [u.id for u in inside.utterances] == [u.id for u in above.utterances]


@pytest.mark.parametrize("name", EACH)
def test_the_folder_is_found_in_any_case_beside_others(name: str, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "something_else").mkdir()
    (tmp_path / name.upper()).symlink_to(tree(name))
    database = load(name, tmp_path)
    assert len(database.utterances) == KNOWN[name].info.expected_utterances


@pytest.mark.parametrize("name", EACH)
def test_one_missing_utterance_is_refused_with_the_difference_and_accepted_on_request(name: str, tree: Tree) -> None:
    root = tree(name)
    victim = load(name, root).utterances[5]
    expected = KNOWN[name].info.expected_utterances
    assert expected is not None
    assert victim.path is not None
    with without(victim.path):
        with pytest.raises(RequestError) as refusal:
            load(name, root)
        partial = load(name, root, allow_incomplete=True)
    text = str(refusal.value)
    assert f"expected {expected} utterances, found {expected - 1} (-1)" in text
    assert f"{victim.emotion}: expected {KNOWN[name].info.expected_emotions[victim.emotion]}" in text
    assert "--allow-incomplete" in text
    assert str(pickle.loads(pickle.dumps(refusal.value))) == text
    assert not partial.complete
    assert f"incomplete: {expected - 1} of {expected} utterances" in partial.remark


def test_what_only_decoding_shows_is_left_out_where_that_is_allowed_and_the_counts_are_whole_without_it(
    copied: Tree,
) -> None:
    root = copied("savee")
    silent = load("savee", root).utterances[3]
    assert silent.path is not None
    content = silent.path.read_bytes()
    silent.path.unlink()
    silent.path.write_bytes(content[:44] + bytes(len(content) - 44))
    assert load("savee", root).complete
    kept = load("savee", root, allow_incomplete=True, decode=True)
    assert not kept.complete
    assert kept.remark == f"incomplete: 479 of 480 utterances; left out: 1 silent ({silent.id})"
    assert silent.id not in {u.id for u in kept.utterances}
    whole = copied("emovo")
    assert load("emovo", whole, allow_incomplete=True, decode=True) == load("emovo", whole)


@pytest.mark.parametrize(
    "name", [each for each in EACH if each.values[0] in {"casia", "cremad", "emovo", "ravdess", "savee"}]
)
def test_where_the_corpus_is_a_grid_the_missing_utterance_is_named(name: str, tree: Tree) -> None:
    root = tree(name)
    victim = load(name, root).utterances[7]
    assert victim.path is not None
    with without(victim.path), pytest.raises(RequestError, match=rf"missing: {victim.id} \(1\)"):
        load(name, root)


@pytest.mark.parametrize("name", [each for each in EACH if each.values[0] not in {"iemocap", "abc"}])
def test_audio_with_a_name_outside_the_code_is_refused_not_guessed(name: str, tree: Tree) -> None:
    root = tree(name)
    with with_extra(root / "notes on this.wav", trees.wav_bytes(1)):
        with pytest.raises(RequestError, match=r"notes on this\.wav: label: .*it is not used"):
            load(name, root)
        assert len(load(name, root, allow_incomplete=True).utterances) == KNOWN[name].info.expected_utterances


@pytest.mark.parametrize("name", ["casia", "emodb", "emovo", "savee"])
def test_a_second_copy_inside_the_folder_is_refused(name: str, copied: Tree) -> None:
    root = copied(name)
    utterance = load(name, root).utterances[0]
    assert utterance.path is not None
    again = root / "copy" / utterance.path.relative_to(root)
    again.parent.mkdir(parents=True)
    again.write_bytes(utterance.path.read_bytes())
    with pytest.raises(RequestError, match="duplicate"):
        load(name, root)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_entry_says_what_it_is_and_its_numbers_agree(name: str) -> None:
    info = KNOWN[name].info
    assert info.name == name
    for text in (info.title, info.language, info.licence, info.citation, info.homepage, info.how_to_get, info.layout):
        assert text
    assert set(info.expected_emotions) == set(info.emotions)
    if info.expected_speakers:
        assert sum(info.expected_speakers.values()) == info.expected_utterances
    for speaker, row in info.expected_speaker_emotions.items():
        assert sum(row.values()) == info.expected_speakers[speaker]
    for emotion in info.emotions:
        rows = info.expected_speaker_emotions.values()
        assert not rows or sum(row[emotion] for row in rows) == info.expected_emotions[emotion]
    ids = KNOWN[name].expected_ids
    assert ids is None or len(ids()) == info.expected_utterances


def test_iemocap_speakers_are_the_true_ones(tree: Tree) -> None:
    truth = {turn: speaker for turn, _, speaker in trees.iemocap_turns()}
    database = load("iemocap", tree("iemocap"))
    assert all(u.speaker == truth[u.id] for u in database.utterances)
    assert all(u.session == u.speaker[:5] for u in database.utterances)
    assert counts(database.utterances)["Ses05M"] == {"angry": 13, "happy": 50, "neutral": 136, "sad": 60}


def test_taking_the_speaker_from_the_dialogs_name_would_move_1142_of_2280_turns(tree: Tree) -> None:
    database = load("iemocap", tree("iemocap"))
    from_dialog = {u.id: u.id.partition("_")[0] for u in database.utterances}
    moved = [u for u in database.utterances if from_dialog[u.id] != u.speaker]
    assert (len(moved), len(database.utterances)) == (1142, 2280)
    assert Counter(from_dialog.values()) != Counter(u.speaker for u in database.utterances)


@pytest.mark.parametrize(
    ("turn", "speaker"),
    [
        ("Ses01F_impro01_F000", "Ses01F"),
        ("Ses01F_impro01_M003", "Ses01M"),
        ("Ses05M_script01_1b_F003", "Ses05F"),
        ("Ses03M_impro05a_F012", "Ses03F"),
    ],
)
def test_the_letter_after_the_last_underscore_is_the_speaker(turn: str, speaker: str) -> None:
    assert speaker_of(turn) == speaker


@pytest.mark.parametrize(
    "turn", ["Ses06F_impro01_F000", "Ses01F_impro01", "Ses01X_impro01_F000", "Ses01F_impro01_X000", "", "_", "F000"]
)
def test_an_id_of_another_form_has_no_speaker(turn: str) -> None:
    with pytest.raises(ValueError, match="is not like Ses01F_impro01_M003"):
        speaker_of(turn)


def test_iemocap_counts_neither_scripted_turns_nor_single_raters_nor_excited(tree: Tree) -> None:
    ids = {u.id for u in load("iemocap", tree("iemocap")).utterances}
    turns = trees.iemocap_turns()
    assert {t for t, code, _ in turns if "impro" in t and code in ("ang", "hap", "neu", "sad")} == ids
    assert sum("impro" in t and code == "exc" for t, code, _ in turns) == 663


def test_a_label_of_iemocap_that_does_not_exist_is_named_with_its_line(copied: Tree) -> None:
    root = copied("iemocap")
    path = root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("\tneu\t", "\tjoy\t", 1))
    with pytest.raises(
        RequestError, match=r"Ses01F_impro01\.txt line \d+: label: label 'joy' is not one of ang, hap, neu, sad"
    ):
        load("iemocap", root)


def test_a_turn_of_another_session_is_not_taken(copied: Tree) -> None:
    root = copied("iemocap")
    path = root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    path.unlink()
    path.write_text(text + "\n[1.0 - 2.0]\tSes02F_impro01_F900\tneu\t[2.5, 2.5, 2.5]\n")
    with pytest.raises(RequestError, match="turn Ses02F_impro01_F900 belongs to another dialog"):
        load("iemocap", root)


def test_an_absent_session_is_named(copied: Tree) -> None:
    root = copied("iemocap")
    shutil.rmtree(root / "Session4")
    with pytest.raises(RequestError, match=r"Session4/dialog/EmoEvaluation: missing") as refusal:
        load("iemocap", root)
    assert "Ses04F: expected 149, found 0" in str(refusal.value)


@pytest.mark.parametrize("data", ["", "iemocap"])
def test_iemocap_is_found_one_folder_deeper(data: str, tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "IEMOCAP").mkdir()
    (tmp_path / "IEMOCAP" / "IEMOCAP_full_release").symlink_to(tree("iemocap"))
    database = load("iemocap", tmp_path / data.upper())
    assert database.root is not None
    assert database.root.name == "IEMOCAP_full_release"


def test_casia_is_read_flat_with_normal_for_neutral_below_a_chinese_folder(tmp_path: Path, tree: Tree) -> None:
    trees.casia_flat(tmp_path)
    flat, deep = load("casia", tmp_path), load("casia", tree("casia"))
    assert [(u.id, u.speaker, u.emotion) for u in flat.utterances] == [
        (u.id, u.speaker, u.emotion) for u in deep.utterances
    ]


def test_casia_refuses_a_file_whose_folder_and_name_disagree(copied: Tree) -> None:
    root = copied("casia")
    (root / "wangzhe" / "happy" / "201.wav").rename(root / "wangzhe" / "happy" / "201-sad-wangzhe.wav")
    with pytest.raises(RequestError, match=r"names 2 emotions \(happy, sad\)"):
        load("casia", root)


def test_savee_is_read_flat_too(tmp_path: Path, tree: Tree) -> None:
    trees.savee_flat(tmp_path)
    assert [u.id for u in load("savee", tmp_path).utterances] == [u.id for u in load("savee", tree("savee")).utterances]


def test_ravdess_leaves_songs_out_without_a_complaint(tree: Tree) -> None:
    database, problems = examine("ravdess", tree("ravdess").parent)
    assert not problems
    assert not any(u.id.startswith("03-02") for u in database.utterances)


def test_tess_gives_the_misnamed_file_to_its_speaker(tree: Tree) -> None:
    by_id = {u.id: u for u in load("tess", tree("tess")).utterances}
    assert by_id["OAF_bite_neutral"].speaker == "OAF"
    assert by_id["OAF_bite_neutral"].path is not None
    assert by_id["OAF_bite_neutral"].path.name == "OA_bite_neutral.wav"


def test_abc_accepts_the_corpus_spellings(tree: Tree) -> None:
    assert {u.emotion for u in load("abc", tree("abc")).utterances} == set(KNOWN["abc"].info.emotions)


def test_abc_without_a_manifest_is_refused_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "abc" / "wav").mkdir(parents=True)
    (tmp_path / "abc" / "wav" / "agressiv_1.wav").write_bytes(trees.wav_bytes(1))
    with pytest.raises(RequestError, match=r"manifest"):
        load("abc", tmp_path)


def test_speakers_who_lack_an_emotion_are_noted_and_not_refused(tree: Tree) -> None:
    database, problems = examine("nemo", tree("nemo"))
    assert database.complete
    assert [(p.kind, "MK0 has no surprised" in p.detail) for p in problems] == [("note", True)]


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(RequestError, match=r"no 'iemocp'; there are abc, casia.*did you mean 'iemocap'"):
        load("iemocp", None)


@pytest.mark.parametrize("name", sorted(trees.TREES))
def test_without_a_folder_the_message_says_how_to_get_the_corpus(name: str) -> None:
    with pytest.raises(RequestError) as refusal:
        load(name, None)
    assert "--data PATH" in str(refusal.value)
    assert KNOWN[name].info.how_to_get in str(refusal.value)


def test_a_folder_without_the_corpus_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "EmoDB").mkdir()
    with pytest.raises(RequestError, match=r"no folder called casia.*folders there: EmoDB"):
        load("casia", tmp_path)


def test_a_folder_of_the_right_name_and_the_wrong_content_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "casia" / "x").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"nothing there looks like CASIA.*<speaker>/<emotion>/<nnn>\.wav"):
        load("casia", tmp_path)


def test_two_copies_side_by_side_are_not_chosen_between(tmp_path: Path, tree: Tree) -> None:
    for name in ("emodb", "EMO-DB"):
        shutil.copytree(tree("emodb"), tmp_path / name)
    with pytest.raises(RequestError, match="is there more than once"):
        load("emodb", tmp_path)


def test_a_data_folder_that_is_not_there_is_said() -> None:
    with pytest.raises(RequestError, match="is not there"):
        load("casia", Path("no/such/folder"))


def test_differences_are_spelled_out_per_speaker_and_emotion(tree: Tree) -> None:
    database = load("emodb", tree("emodb"))
    without = [u for u in database.utterances if not (u.speaker == "09" and u.emotion == "fear")]
    text = " ".join(p.detail for p in published_counts.deviations(database.info, without, "x"))
    for part in (
        "found 534 (-1)",
        "fear: expected 69, found 68",
        "09: expected 43, found 42",
        "09 fear: expected 1, found 0",
    ):
        assert part in text
