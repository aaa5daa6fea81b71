"""Databases of one's own: a CSV manifest, and audformat."""

from __future__ import annotations

import pickle
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from tests.trees import wav_bytes
from tfser.databases import examine, load, manifest
from tfser.errors import RequestError

LINES = ["path,speaker,emotion", "wav/a.wav,anna,joy", "wav/b.wav,bert,anger", "wav/c.wav,anna,anger"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files."""
    (tmp_path / "wav").mkdir()
    for number, name in enumerate("abc"):
        (tmp_path / "wav" / f"{name}.wav").write_bytes(wav_bytes(number))
    return tmp_path


def write(folder: Path, lines: list[str], name: str = "mine.csv", encoding: str = "utf-8") -> str:
    (folder / name).write_bytes("\n".join(lines).encode(encoding))
    return str(folder / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_manifest_is_read_with_and_without_a_byte_order_mark(encoding: str, folder: Path) -> None:
    database = load(write(folder, LINES, encoding=encoding), None)
    assert database.name == "mine"
    assert database.emotions == ("anger", "joy")
    assert [(u.id, u.speaker, u.emotion, u.session) for u in database.utterances] == [
        ("wav/a.wav", "anna", "joy", None),
        ("wav/b.wav", "bert", "anger", None),
        ("wav/c.wav", "anna", "anger", None),
    ]


def test_columns_may_stand_in_any_order_in_any_case_beside_others(folder: Path) -> None:
    lines = ["Emotion, Text,PATH,Speaker,session", 'joy,"a, b",./wav/a.wav,anna,s1', "anger,x,wav//b.wav,bert,s2"]
    database = load(write(folder, lines), None)
    assert [(u.id, u.session) for u in database.utterances] == [("wav/a.wav", "s1"), ("wav/b.wav", "s2")]


def test_every_problem_is_reported_with_its_line(folder: Path) -> None:
    lines = [
        *LINES,
        "wav/gone.wav,anna,joy",
        "wav/a.wav,anna,joy",
        "wav/b.wav,,joy",
        "/abs/x.wav,anna,joy",
        "wav/c.wav,anna",
        "",
        "wav\\c.wav,../../etc,joy",
        '"wav/two\nlines.wav",anna,joy',
        "wav/last.wav,anna,joy",
    ]
    with pytest.raises(RequestError) as refusal:
        load(write(folder, lines), None)
    text = str(refusal.value)
    for part in (
        "line 5: missing",
        "line 6: duplicate: wav/a.wav is already on line 2",
        "line 7: label: speaker is empty",
        "line 8: label: path /abs/x.wav is absolute",
        "line 9: label: 2 cells, but the header has 3",
        "line 11: label: speaker '../../etc' is not a plain name",
        "line 12: missing",
        r"two\nlines.wav",
        "line 14: missing",
    ):
        assert part in text
    partial = load(str(folder / "mine.csv"), None, allow_incomplete=True)
    assert not partial.complete
    assert len(partial.utterances) == 3


def test_many_problems_of_one_kind_are_counted_not_all_shown(folder: Path) -> None:
    with pytest.raises(RequestError) as refusal:
        load(write(folder, [*LINES, *(f"wav/{n}.wav,anna,joy" for n in range(100))]), None)
    assert str(refusal.value).count("is not there") == 20
    assert "... and 80 more of kind 'missing'" in str(refusal.value)


def test_a_session_for_some_lines_only_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"line 3: label: no session, while 1 other lines have one"):
        load(write(folder, ["path,speaker,emotion,session", "wav/a.wav,a,joy,s1", "wav/b.wav,b,joy,"]), None)


def test_names_that_differ_by_case_only_are_one_name_mistyped(folder: Path) -> None:
    with pytest.raises(RequestError, match="emotions Joy, joy differ by case only"):
        load(write(folder, [*LINES[:3], "wav/c.wav,anna,Joy"]), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"path;speaker;emotion\n", "no column 'speaker'.*separated by commas"),
        (b"path,speaker\n", "no column 'emotion'; there are path, speaker"),
        (b"path,path,speaker,emotion\n", "column 'path' is there twice"),
        (b"path,speaker,emotion\nwav/a.wav,a\xff,joy\n", "line 2: byte 0xff is not UTF-8"),
        (b"path,speaker,emotion\n", "no utterance was found"),
        (b'path,speaker,emotion\n"wav/a.wav,anna,joy\n', "line 2.*unexpected end of data"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_as_a_whole(content: bytes, message: str, folder: Path) -> None:
    (folder / "mine.csv").write_bytes(content)
    with pytest.raises(RequestError, match=rf"(?s){message}"):
        load(str(folder / "mine.csv"), None)


def test_the_head_of_a_refusal_counts_every_problem_although_only_some_have_a_line(folder: Path) -> None:
    wrong = [f"wav/{number}.wav,anna,joy" for number in range(32)]
    for lines in ([*LINES, *wrong], [LINES[0], *wrong]):  # some utterances can be read, or none
        with pytest.raises(RequestError, match="^database mine.*: 32 problems, nothing was started") as caught:
            load(write(folder, lines), None)
        assert "... and 12 more of kind 'missing'" in str(caught.value)
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)


def test_a_manifest_that_is_not_there_or_a_folder_is_said(folder: Path) -> None:
    with pytest.raises(RequestError, match="this is not there"):
        load(str(folder / "absent.csv"), None)
    with pytest.raises(RequestError, match="this is a folder"):
        load(str(folder) + "/wav", None)


@pytest.mark.parametrize(("file", "name"), [("My Corpus (v2).csv", "my-corpus-v2"), ("语音 a.csv", "a"), ("x_1-b.csv", "x_1-b")])
def test_the_name_is_a_safe_word_made_of_the_files(file: str, name: str) -> None:
    assert manifest.name_of(Path(file)) == name


@pytest.mark.parametrize("file", ["语音.csv", "...csv", "_.csv"])
def test_a_file_name_without_a_letter_cannot_name_a_database(file: str) -> None:
    with pytest.raises(RequestError, match="needs a letter or digit"):
        manifest.name_of(Path(file))


def test_a_manifest_never_takes_the_name_of_a_reader(folder: Path) -> None:
    assert load(write(folder, LINES, "emodb.csv"), None).name == "emodb-manifest"


@pytest.mark.parametrize("label", ["a/b", "..", "-x", "a\nb", " ", "x" * 65, "=1+1", "a,b", '"'])
def test_a_label_that_could_harm_a_path_or_a_table_is_refused(label: str) -> None:
    assert manifest.label_problem(label) is not None


NAMES = ["प्रिया", "தமிழ்ச்செல்வி", "สมชาย", "ขวัญใจ", "বৃষ্টি", "ಕೃಷ್ಣ", "မြန်မာ", "ខ្មែរ", "سارة", "שָׂרָה", "김민수", "Nguyễn", "Zoë", "x̃u"]


@pytest.mark.parametrize("label", NAMES)
def test_names_of_every_script_pass_with_their_marks_in_either_spelling(label: str, folder: Path) -> None:
    spelt = [unicodedata.normalize(form, label) for form in ("NFC", "NFD")]
    database = load(write(folder, [LINES[0], f"wav/a.wav,{spelt[0]},joy", f"wav/b.wav,{spelt[1]},{spelt[1]}", "wav/c.wav,bert,joy"]), None)
    assert database.speakers == tuple(sorted({"bert", spelt[0]}))  # one person, however the accents are typed
    assert set(database.emotions) == {"joy", spelt[0]}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("an\u200dna", r"'an\u200dna' holds U+200D (ZERO WIDTH JOINER), which cannot be seen; remove it"),
        ("\u202eanna", "holds U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("anna\ufeff", "holds U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("anna\u00ad", "holds U+00AD (SOFT HYPHEN)"),
        ("anna\ufe0f", "holds U+FE0F (VARIATION SELECTOR-16)"),
        ("\u3164", "holds U+3164 (HANGUL FILLER)"),
        ("an\0na", "holds U+0000 (a control character)"),
        ("\u0301anna", "a letter or digit first"),
        (".anna", "a letter or digit first"),
        ("-anna", "a letter or digit first"),
        ("anna😀", "is not a plain name"),
        ("CON", "'CON' is a name that no file can have on Windows"),
        ("lpt1.x", "is a name that no file can have on Windows"),
    ],
)
def test_a_label_that_shows_less_than_it_holds_or_names_no_file_is_refused_in_words(label: str, message: str) -> None:
    assert message in (manifest.label_problem(label) or "")


@pytest.mark.parametrize("file", ["con.csv", "Aux.csv", "COM1.csv"])
def test_a_manifest_with_a_name_that_windows_keeps_is_refused(file: str) -> None:
    with pytest.raises(RequestError, match="Windows has no file of that name"):
        manifest.name_of(Path(file))


@pytest.mark.parametrize("label", ["anna", "Ses01F", "03", "müller", "王", "pleasant surprise", "a.b_c-d"])
def test_ordinary_labels_pass(label: str) -> None:
    assert manifest.label_problem(label) is None


def audformat_database(folder: Path, name: str = "field") -> object:
    """Emotion in one table, speaker in another."""
    audformat = pytest.importorskip("audformat")
    database = audformat.Database(name, source="here", license="CC0-1.0", languages=["deu"])
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "joy"])
    database.schemes["speaker"] = audformat.Scheme("str")
    files = [f"wav/{letter}.wav" for letter in "abc"]
    database["emotion"] = audformat.Table(audformat.filewise_index(files))
    database["emotion"]["gold"] = audformat.Column(scheme_id="emotion")
    database["emotion"]["gold"].set(["joy", "anger", "anger"])
    database["files"] = audformat.Table(audformat.filewise_index(files))
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set(["anna", "bert", "anna"])
    database.save(str(folder), storage_format="csv")
    return database


BOMB = "x0: &x0 [1, 2, 3]\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (BOMB, r"it holds more than \d+ values \(an alias counts as all that it stands for\)"),
        ("[" * 200_000, "it is nested more than 50 levels deep"),
        ("!!python/object/apply:os.mkdir ['made']", "Python objects are not made"),
        ("%TAG !p! tag:yaml.org,2002:python/\n--- !p!object/apply:os.mkdir ['made']", "Python objects are not made"),
        ("name: [", "while parsing a flow"),
    ],
    ids=["bomb", "deep", "object", "tagged", "cut"],
)
def test_an_audformat_header_that_would_hang_or_run_code_is_refused(
    header: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("audformat")
    monkeypatch.chdir(folder)
    (folder / "db.yaml").write_text(header)
    with pytest.raises(RequestError, match=rf"db\.yaml cannot be read: line \d+: .*{message}|{message}"):
        load(f"audformat:{folder}", None)
    assert not (folder / "made").exists()


def test_audformat_tables_are_joined_by_file(folder: Path) -> None:
    audformat_database(folder)
    database = load(f"audformat:{folder}", None)
    assert (database.name, database.info.language, database.info.licence) == ("field", "deu", "CC0-1.0")
    assert [(u.id, u.speaker, u.emotion) for u in database.utterances] == [
        ("wav/a.wav", "anna", "joy"),
        ("wav/b.wav", "bert", "anger"),
        ("wav/c.wav", "anna", "anger"),
    ]


def test_audformat_pickles_are_never_opened(folder: Path) -> None:
    audformat_database(folder)
    for path in list(folder.glob("db.*.csv")):
        path.with_suffix(".pkl").write_bytes(b"cposix\nsystem\n(S'exit 1'\ntR.")
    assert len(load(f"audformat:{folder}", None).utterances) == 3
    for path in folder.glob("db.*.csv"):
        path.unlink()
    with pytest.raises(RequestError, match="exist as pickles only"):
        load(f"audformat:{folder}", None)


def test_audformat_tables_that_disagree_are_refused(folder: Path) -> None:
    database = audformat_database(folder)
    audformat = pytest.importorskip("audformat")
    database["other"] = audformat.Table(audformat.filewise_index(["wav/a.wav"]))  # type: ignore[index]
    database["other"]["emotion"] = audformat.Column(scheme_id="emotion")  # type: ignore[index]
    database["other"]["emotion"].set(["anger"])  # type: ignore[index]
    database.save(str(folder), storage_format="csv")  # type: ignore[attr-defined]
    with pytest.raises(RequestError, match="wav/a.wav: label: emotion is anger in other but joy in emotion"):
        load(f"audformat:{folder}", None)


def test_audformat_files_without_an_emotion_are_noted(folder: Path) -> None:
    database = audformat_database(folder)
    database["emotion"]["gold"].set(["joy", None, "anger"])  # type: ignore[index]
    database.save(str(folder), storage_format="csv")  # type: ignore[attr-defined]
    read, problems = examine(f"audformat:{folder}", None)
    assert [u.id for u in read.utterances] == ["wav/a.wav", "wav/c.wav"]
    assert any("1 files have no emotion" in problem.detail for problem in problems)


def test_audformat_parts_of_files_are_refused(folder: Path) -> None:
    audformat = pytest.importorskip("audformat")
    database = audformat.Database("parts")
    index = audformat.segmented_index(["wav/a.wav"], ["0.1s"], ["0.2s"])
    database["emotion"] = audformat.Table(index)
    for column in ("emotion", "speaker"):
        database["emotion"][column] = audformat.Column()
        database["emotion"][column].set(pd.Series(["x"], index=index))
    database.save(str(folder), storage_format="csv")
    with pytest.raises(RequestError, match="table emotion holds parts of files"):
        load(f"audformat:{folder}", None)


def test_audformat_without_the_columns_lists_what_there_is(folder: Path) -> None:
    audformat = pytest.importorskip("audformat")
    database = audformat.Database("bare")
    database["files"] = audformat.Table(audformat.filewise_index(["wav/a.wav"]))
    database["files"]["mood"] = audformat.Column()
    database["files"]["mood"].set(["x"])
    database.save(str(folder), storage_format="csv")
    with pytest.raises(RequestError, match="(?s)no table has a column 'emotion'; there are files: mood.*'speaker'"):
        load(f"audformat:{folder}", None)


@pytest.mark.parametrize("header", ["", "name: [", "- a\n- b\n", "name: x\n", "\0"])
def test_a_damaged_audformat_header_is_a_plain_error(header: str, folder: Path) -> None:
    pytest.importorskip("audformat")
    (folder / "db.yaml").write_text(header)
    with pytest.raises(RequestError, match=r"audformat"):
        load(f"audformat:{folder}", None)


def test_audformat_elsewhere_or_not_installed_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"db\.yaml is not there"):
        load(f"audformat:{folder}", None)
    (folder / "db.yaml").write_text("name: x\n")
    absent: ModuleType | None = None
    monkeypatch.setitem(sys.modules, "audformat", absent)
    with pytest.raises(RequestError, match="pip install audformat"):
        load(f"audformat:{folder}", None)
