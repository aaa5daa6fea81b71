"""Databases of one's own: a CSV manifest, and audformat."""

from __future__ import annotations

import pickle
import re
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from tests.helpers.trees import wav_bytes
from tfser.databases import examine, load, spelling
from tfser.databases.base import Database, Utterance
from tfser.databases.formats import manifest
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
        "line 8: label: path /abs/x.wav is absolute, and no one folder holds all the files",
        "line 9: label: 2 cells, but the header has 3",
        "line 11: label: speaker '../../etc' is not a plain name",
        "(3 of this kind; also line 12, line 14)",
    ):
        assert part in text
    partial = load(str(folder / "mine.csv"), None, allow_incomplete=True)
    assert not partial.complete
    assert len(partial.utterances) == 3


@pytest.mark.parametrize(
    "lines",
    [
        ["path,speaker,emotion,text", 'wav/a.wav,anna,joy,"so', "wav/b.wav,bert,anger,no", 'wav/c.wav,anna,anger,yes"'],
        ["path,text,speaker,emotion", 'wav/a.wav,"so,anna,joy', "wav/b.wav,no,bert,anger", 'wav/c.WAV,yes",anna,anger'],
    ],
)
def test_lines_that_a_missing_quote_makes_one_record_are_refused(lines: list[str], folder: Path) -> None:
    (problem, *_) = refused(write(folder, [*lines, "wav/b.wav,carl,joy,joy"]))
    assert "mine.csv line 2: label: it and the lines to 4 are one record; is a quote missing?" in problem


def test_a_transcript_of_several_lines_with_commas_is_one_cell(folder: Path) -> None:
    text = '"Well, so, no, never.\nYes, a, b, c\r\n, , ,"'
    lines = ["path,text,speaker,emotion", f"wav/a.wav,{text},anna,joy", "wav/b.wav,x,bert,anger"]
    assert len(load(write(folder, lines), None).utterances) == 2


def test_problems_of_one_kind_are_one_line_with_a_count_and_an_example(folder: Path) -> None:
    lines = [
        *LINES,
        *(f"wav/{n}.wav,anna,joy" for n in range(100)),
        *(f"wav/a.wav,/{n},joy" for n in range(30)),
        "wav/b.wav,bert,",
    ]
    with pytest.raises(RequestError) as refusal:
        load(write(folder, lines), None)
    missing, speaker, emotion = sorted(refusal.value.problems, key=lambda text: text.count("line"), reverse=True)
    assert "line 5: missing: " in missing
    assert "wav/0.wav is not there (100 of this kind; also line 6, line 7" in missing
    assert "87 more)" in missing
    assert "speaker '/0' is not a plain name" in speaker
    assert "(30 of this kind" in speaker
    assert "line 135: label: emotion is empty" in emotion


def test_a_session_for_some_lines_only_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"line 3: label: no session, while 1 other lines have one"):
        load(write(folder, ["path,speaker,emotion,session", "wav/a.wav,a,joy,s1", "wav/b.wav,b,joy,"]), None)


def test_names_that_differ_by_case_only_are_one_name_mistyped(folder: Path) -> None:
    with pytest.raises(RequestError, match="emotions Joy, joy differ by case only"):
        load(write(folder, [*LINES[:3], "wav/c.wav,anna,Joy"]), None)


def corpus(folder: Path, rows: list[str], columns: str = "path,speaker,emotion,session") -> str:
    """A manifest of any number of rows; their files are made, no two alike."""
    for number, row in enumerate(rows):
        path = folder / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(number))
    return write(folder, [columns, *rows])


def refused(request: str) -> list[str]:
    with pytest.raises(RequestError) as refusal:
        load(request, None)
    return refusal.value.problems


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ("s1", "S1", "case"),
        ("1", "1.0", "the form of a number"),
        ("3", "03", "the form of a number"),
        ("spk3", "spk03", "the form of a number"),
        ("a", "\uff41", "Unicode form"),
        ("a b", "a_b", "blanks, - and _"),
        ("s2", "s-2", "separators at an end or beside a digit"),
        ("S1", "S 1", "separators at an end or beside a digit"),
        ("2_a", "2a", "separators at an end or beside a digit"),
        ("carl", "carl.", "separators at an end or beside a digit"),
        ("s.02", "s2", "the form of a number"),
    ],
)
@pytest.mark.parametrize("column", [1, 2, 3])
def test_one_name_in_two_spellings_is_refused_in_every_column(
    column: int, one: str, other: str, reason: str, folder: Path
) -> None:
    rows = []
    for number, name in enumerate((one, other, one, other)):
        cells = [f"wav/{number}.wav", f"p{number % 2}q", ("joy", "anger")[number % 2], f"t{number % 2}x"]
        cells[column] = name
        rows.append(",".join(cells))
    (problem,) = refused(corpus(folder, rows))
    assert f"differ by {reason} only; write them the same" in problem
    assert "--allow-incomplete goes on with the 4 utterances" in problem
    kept = load(str(folder / "mine.csv"), None, allow_incomplete=True)
    assert "labels taken as typed: " in kept.remark


@pytest.mark.parametrize("pair", [("1_1", "11"), ("a.b", "ab"), ("anger", "anger+"), ("1.5", "15"), ("a+1", "a1")])
def test_separators_between_digits_and_other_signs_tell_two_names_apart(pair: tuple[str, str]) -> None:
    assert not spelling.problems([Utterance(id=name, speaker=name, emotion="joy") for name in pair])


@pytest.mark.parametrize(
    ("name", "scripts", "letter"),
    [
        ("c\u0430rl", "Cyrillic and Latin", "U+0430 (CYRILLIC SMALL LETTER A)"),
        ("\u0418v\u0430\u043d", "Cyrillic and Latin", "U+0076 (LATIN SMALL LETTER V)"),
        ("Ann\u03b1 1", "Greek and Latin", "U+03B1 (GREEK SMALL LETTER ALPHA)"),
    ],
)
def test_a_word_of_two_scripts_that_look_alike_is_refused(name: str, scripts: str, letter: str, folder: Path) -> None:
    (problem,) = refused(corpus(folder, [f"wav/1.wav,{name},joy,a", "wav/2.wav,bert,anger,b"]))
    assert f"speaker {name} has letters of {scripts} in one word, as {letter}; write it in one script" in problem
    kept = load(str(folder / "mine.csv"), None, allow_incomplete=True)
    assert "labels taken as typed: speaker" in kept.remark


@pytest.mark.parametrize(
    "name", ["\u0418\u0432\u0430\u043d", "spk_\u0418\u0432\u0430\u043d", "\u738bLee", "\u03b1 wave"]
)
def test_scripts_in_words_of_their_own_pass(name: str) -> None:
    assert not spelling.problems([Utterance(id=name, speaker=name, emotion="joy")])


def test_accents_in_two_unicode_forms_are_one_name() -> None:
    pair = [Utterance(id=name, speaker=name, emotion="joy") for name in ("Andr\u00e9", "Andre\u0301")]
    (problem,) = spelling.problems(pair)
    assert problem.detail == "speakers 'Andre\\u0301', 'Andr\\xe9' differ by Unicode form only; write them the same"


@pytest.mark.parametrize("label", ["NA", "Nan", "no", "yes", "1e5", "03", "3.0", "TRUE"])
def test_a_label_is_text_whatever_it_looks_like(label: str, folder: Path) -> None:
    database = load(corpus(folder, [f"wav/{label},{label},{label},{label}", "wav/b.wav,bert,anger,s2"]), None)
    (utterance,) = (u for u in database.utterances if u.speaker != "bert")
    assert (utterance.id, utterance.emotion, utterance.speaker, utterance.session) == (
        f"wav/{label}",
        label,
        label,
        label,
    )


@pytest.mark.parametrize("text", ["nan", "None", "NULL", "<NA>", "n/a", "#N/A", "NaT", "NaN"])
@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_missing_value_that_became_text_is_no_name(column: int, text: str, folder: Path) -> None:
    cells = ["wav/a.wav", "anna", "joy", "s1"]
    cells[column] = text
    (problem,) = refused(corpus(folder, [",".join(cells), "wav/b.wav,bert,anger,s2", "wav/c.wav,bert,joy,s2"]))
    what = ("speaker", "emotion", "session")[column - 1]
    assert f"line 2: label: {what} {text!r} looks like a missing value: write the name or remove the line" in problem


def of(counts: dict[tuple[str, str], int]) -> list[Utterance]:
    return [
        Utterance(id=f"{s} {e} {n}", speaker=s, emotion=e) for (s, e), count in counts.items() for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("angerr", "anger"), ("agner", "anger"), ("angry", "anger"), ("neutrl", "neutral"), ("sadd", "sad")],
)
def test_a_rare_emotion_near_another_is_taken_for_a_slip(typed: str, meant: str) -> None:
    usual = {(s, e): 12 for s in ("anna", "bert", "carl") for e in ("anger", "neutral", "sad")}
    (problem,) = spelling.problems(of({**usual, ("anna", typed): 1}))
    assert problem.path == f"anna {typed} 0"
    assert problem.detail == (
        f"emotion {typed} has 1 utterance of 1 speaker and is near {meant} (36); did you mean '{meant}'? "
        "If not, --allow-incomplete goes on with both"
    )


def test_an_emotion_that_one_speaker_alone_spells_otherwise_is_taken_for_a_slip() -> None:
    counts = {
        ("anna", "angry"): 9,
        ("bert", "anger"): 9,
        ("carl", "anger"): 9,
        **{(s, "sad"): 9 for s in ("anna", "bert", "carl")},
    }
    assert ["did you mean 'anger'" in p.detail for p in spelling.problems(of(counts))] == [True]


def test_near_emotions_that_share_no_speaker_are_words_of_two_lists() -> None:
    lists = {("anna", "bert"): ("angry", "sad", "happy"), ("carl", "dora"): ("anger", "sadness", "joy")}
    counts = {(s, e): 5 + len(e) for people, emotions in lists.items() for s in people for e in emotions}
    assert [p.detail.partition(" has ")[0] for p in spelling.problems(of(counts))] == ["emotion anger", "emotion sad"]
    assert not spelling.problems(of({**counts, ("anna", "anger"): 4, ("anna", "sadness"): 4}))


@pytest.mark.parametrize(
    "counts",
    [
        {("a", "mad"): 1, ("a", "sad"): 30, ("b", "sad"): 30},
        {("a", "happy"): 20, ("b", "happy"): 20, ("a", "unhappy"): 2},
        {("a", "level1"): 1, ("a", "level2"): 30, ("b", "level2"): 30},
        {("a", "tired"): 2, ("b", "bored"): 30},
        {("a", "anger"): 1, ("b", "joy"): 1},
        {("a", "fear"): 5, ("b", "fear"): 5, ("a", "tear"): 5, ("b", "tear"): 5},
        {("anna", "joy"): 20, ("anne", "joy"): 20, ("bert", "joy"): 5},
        {(f"speaker{n}", "joy"): 1 for n in range(30)},
    ],
)
def test_other_words_and_small_databases_pass(counts: dict[tuple[str, str], int]) -> None:
    assert not spelling.problems(of(counts))


def test_a_speaker_of_one_utterance_near_a_common_one_is_taken_for_a_slip() -> None:
    counts = {("anna", "joy"): 20, ("bert", "joy"): 20, ("carl", "joy"): 20, ("ana", "joy"): 1}
    assert ["did you mean 'anna'" in p.detail for p in spelling.problems(of(counts))] == [True]


def test_an_emotion_of_one_speaker_alone_is_noted(folder: Path) -> None:
    _, problems = examine(write(folder, LINES), None)
    assert "anna alone has joy: its recall is 0 by construction where that speaker is held out" in [
        p.detail for p in problems
    ]


def digest(database: Database) -> str:
    return database.digest({u.id: database.audio_digest(u) for u in database.utterances})


def absolute(folder: Path, files: list[str]) -> list[str]:
    people = ["anna,joy", "bert,anger", "anna,anger"]
    return ["path,speaker,emotion", *(f"{folder / file},{who}" for file, who in zip(files, people, strict=True))]


def test_absolute_paths_below_one_folder_give_the_same_ids_at_every_mount_point(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = ["x/wav/a.wav", "x/wav/b.wav", "x/c.wav"]
    found = []
    for mount in (tmp_path_factory.mktemp("one") / "here", tmp_path_factory.mktemp("two")):
        for number, file in enumerate(files):
            (mount / file).parent.mkdir(parents=True, exist_ok=True)
            (mount / file).write_bytes(wav_bytes(number))
        for place in (folder, mount):
            database = load(write(place, absolute(mount, files)), None)
            assert [u.id for u in database.utterances] == ["c.wav", "wav/a.wav", "wav/b.wav"]
            found.append(digest(database))
    assert len(set(found)) == 1


def test_absolute_paths_below_no_one_folder_need_ids(folder: Path) -> None:
    lines = absolute(folder, ["wav/a.wav", "wav/b.wav", "wav/c.wav"])
    lines[3] = "/elsewhere/c.wav,anna,anger"
    (problem,) = refused(write(folder, lines))
    assert "is absolute, and no one folder holds all the files; add a column id" in problem
    assert "(3 of this kind; also line 3, line 4)" in problem
    lines = [f"{line},{name}" for line, name in zip(lines, ("id", "x", "y", "z"), strict=True)]
    (problem,) = refused(write(folder, lines))
    assert "/elsewhere/c.wav is not there" in problem
    assert [u.id for u in load(str(folder / "mine.csv"), None, allow_incomplete=True).utterances] == ["x", "y"]


@pytest.mark.parametrize("name", ["/x", "C:\\x", "", "~x", "x"])
def test_an_id_is_one_name_and_no_absolute_path(name: str, folder: Path) -> None:
    lines = [
        f"{line},{mine}"
        for line, mine in zip(
            absolute(folder, ["wav/a.wav", "wav/b.wav", "wav/c.wav"]), ("id", "x", name, "z"), strict=True
        )
    ]
    (problem,) = refused(write(folder, lines))
    assert "line 3" in problem
    assert "id is empty" in problem or "is an absolute path" in problem or "x is already on line 2" in problem


def test_a_column_of_ids_beside_relative_paths_changes_nothing(folder: Path) -> None:
    plain = load(write(folder, LINES), None)
    with_ids = load(write(folder, [f"{line},{n}" for line, n in zip(LINES, ("id", 1, 2, 3), strict=True)]), None)
    assert digest(plain) == digest(with_ids)


def test_paths_with_backslashes_are_read_as_folders(folder: Path) -> None:
    database = load(write(folder, [LINES[0], r"wav\a.wav,anna,joy", r".\wav\b.wav,bert,anger"]), None)
    assert [u.id for u in database.utterances] == ["wav/a.wav", "wav/b.wav"]


def test_paths_of_another_system_are_refused_each_kind_once(folder: Path) -> None:
    rows = [
        r"C:\x\a.wav,anna,joy",
        r"D:\b.wav,anna,joy",
        r"\\host\c.wav,bert,joy",
        "s3://bucket/d.wav,bert,joy",
        "~somebody/e.wav,bert,joy",
    ]
    problems = refused(write(folder, [*LINES, *rows]))
    assert len(problems) == 3
    assert r"path C:\x\a.wav is absolute and of a Windows machine" in problems[0]
    assert "(3 of this kind; also line 6, line 7)" in problems[0]
    assert "s3://bucket/d.wav is a URI" in problems[1]
    assert "~somebody/e.wav is absolute" in problems[2]


def test_a_file_is_found_under_its_name_in_another_unicode_form(folder: Path) -> None:
    (folder / "wav" / "e\u0301.wav").write_bytes(wav_bytes(7))
    database = load(write(folder, [*LINES, "wav/\u00e9.wav,bert,joy"]), None)
    assert database.utterances[-1].id == "wav/\u00e9.wav"
    assert len(database.audio_digest(database.utterances[-1])) == 64


def test_a_manifest_behind_a_uri_names_no_file_of_this_machine(folder: Path) -> None:
    (folder / "s").mkdir()
    rows = [f"{folder}/wav/a.wav,anna,joy", "../wav/b.wav,bert,anger", "c.wav,anna,anger", "~/d.wav,bert,joy"]
    (folder / "s" / "c.wav").write_bytes(wav_bytes(3))
    _, reading = manifest.read(Path(write(folder / "s", [LINES[0], *rows])), remote=True)
    assert [u.id for u in reading.utterances] == ["c.wav"]
    assert [p.about for p in reading.problems] == ["local file", "local file", "home"]


def test_blank_cells_and_lines_at_the_end_are_nothing(folder: Path) -> None:
    lines = [
        f"{LINES[0]},,",
        f"{LINES[1]},,",
        f'"{LINES[2].replace(",", chr(34) + "," + chr(34))}",,',
        f"{LINES[3]},,,",
        ",,,,",
        "",
        "",
    ]
    assert len(load(write(folder, lines), None).utterances) == 3


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
        assert re.search(r"missing: .*\(32 of this kind; also .* 19 more\)", str(caught.value))
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)


def test_a_manifest_that_is_not_there_or_a_folder_is_said(folder: Path) -> None:
    with pytest.raises(RequestError, match="this is not there"):
        load(str(folder / "absent.csv"), None)
    with pytest.raises(RequestError, match="this is a folder"):
        load(str(folder) + "/wav", None)


@pytest.mark.parametrize(
    ("file", "name"), [("My Corpus (v2).csv", "my-corpus-v2"), ("语音 a.csv", "a"), ("x_1-b.csv", "x_1-b")]
)
def test_the_name_is_a_safe_word_made_of_the_files(file: str, name: str) -> None:
    assert manifest.name_of(Path(file)) == name


@pytest.mark.parametrize("file", ["语音.csv", "...csv", "_.csv"])
def test_a_file_name_without_a_letter_cannot_name_a_database(file: str) -> None:
    with pytest.raises(RequestError, match="needs a letter or digit"):
        manifest.name_of(Path(file))


def test_a_person_can_name_a_manifest_and_any_other_database(folder: Path) -> None:
    path = write(folder, LINES, "labels.csv")
    plain, named = load(str(path), None), load(f"mine={path}", None)
    assert (plain.name, named.name) == ("labels", "mine")
    assert named.utterances == plain.utterances
    assert load(f"a_1={write(folder, LINES, '语音.csv')}", None).name == "a_1"
    assert load("toy=synthetic", None).name == "toy"
    assert load("synthetic=synthetic", None).name == "synthetic"


def test_a_sign_in_a_path_is_no_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, LINES, "a=b.csv")
    assert load(str(folder / "a=b.csv"), None).name == "a-b"
    monkeypatch.chdir(folder)
    assert load("a=b.csv", None).name == "a-b"


@pytest.mark.parametrize("name", ["", "../x", "My Corpus", "a" * 65, "-a", "con", "语音", "casia", "a.b"])
def test_a_name_is_checked_before_it_becomes_a_path_and_takes_nobody_elses(name: str, folder: Path) -> None:
    path = write(folder, LINES, "labels.csv")
    with pytest.raises(RequestError) as caught:
        load(f"{name}={path}", None)
    said = "is the name of a database" if name == "casia" else "" if "/" in name else "becomes a part of folders"
    assert said in str(caught.value)


def test_an_audformat_database_can_be_named(folder: Path) -> None:
    audformat = pytest.importorskip("audformat")
    write(folder, LINES)
    database = audformat.Database("spoken")
    table = pd.read_csv(folder / "mine.csv")
    database["files"] = audformat.Table(audformat.filewise_index([str(p) for p in table.path]))
    for column in ("emotion", "speaker"):
        database["files"][column] = audformat.Column()
        database["files"][column].set(table[column].astype(str).to_list())
    database.save(str(folder))
    assert load(f"audformat:{folder}", None).name == "spoken"
    assert load(f"mine=audformat:{folder}", None).name == "mine"


def test_a_manifest_never_takes_the_name_of_a_reader(folder: Path) -> None:
    assert load(write(folder, LINES, "emodb.csv"), None).name == "emodb-manifest"


@pytest.mark.parametrize("label", ["a/b", "..", "-x", "a\nb", " ", "x" * 65, "=1+1", "a,b", '"'])
def test_a_label_that_could_harm_a_path_or_a_table_is_refused(label: str) -> None:
    assert manifest.label_problem(label) is not None


NAMES = [
    "प्रिया",
    "தமிழ்ச்செல்வி",
    "สมชาย",
    "ขวัญใจ",
    "বৃষ্টি",
    "ಕೃಷ್ಣ",
    "မြန်မာ",
    "ខ្មែរ",
    "سارة",
    "שָׂרָה",
    "김민수",
    "Nguyễn",
    "Zoë",
    "x̃u",
]


@pytest.mark.parametrize("label", NAMES)
def test_names_of_every_script_pass_with_their_marks_in_either_spelling(label: str, folder: Path) -> None:
    spelt = [unicodedata.normalize(form, label) for form in ("NFC", "NFD")]
    database = load(
        write(
            folder, [LINES[0], f"wav/a.wav,{spelt[0]},joy", f"wav/b.wav,{spelt[1]},{spelt[1]}", "wav/c.wav,bert,joy"]
        ),
        None,
    )
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
    assert any("1 file has no emotion" in problem.detail for problem in problems)


HEADER = """name: field
source: here
usage: unrestricted
languages: [deu]
schemes:
  emotion: {dtype: str, labels: %s}
tables:
  one:
    type: filewise
    columns: {emotion: {scheme_id: emotion}, speaker: {}}
  two:
    type: filewise
    columns: {speaker: {}}
"""


def audformat_text(folder: Path, one: str, two: str = "file,speaker\n", labels: str = "[anger, joy]") -> str:
    """Two tables as they stand in the files."""
    pytest.importorskip("audformat")
    (folder / "db.yaml").write_text(HEADER % labels)
    (folder / "db.one.csv").write_text(f"file,emotion,speaker\n{one}")
    (folder / "db.two.csv").write_text(two)
    return f"audformat:{folder}"


def test_audformat_speakers_stay_the_same_beside_an_empty_cell(folder: Path) -> None:
    one = "wav/a.wav,joy,3\nwav/b.wav,anger,\nwav/c.wav,anger,03x\n"
    database = load(audformat_text(folder, one, "file,speaker\nwav/a.wav,3\nwav/b.wav,4\n"), None)
    assert [u.speaker for u in database.utterances] == ["3", "4", "03x"]


@pytest.mark.parametrize("speaker", ["NA", "03", "1e5"])
def test_audformat_labels_are_text(speaker: str, folder: Path) -> None:
    database = load(audformat_text(folder, f"wav/a.wav,joy,{speaker}\nwav/b.wav,anger,bert\n"), None)
    assert [u.speaker for u in database.utterances] == [speaker, "bert"]


def test_an_audformat_speaker_that_is_a_missing_value_as_text_is_refused(folder: Path) -> None:
    (problem,) = refused(audformat_text(folder, "wav/a.wav,joy,None\nwav/b.wav,anger,bert\n"))
    assert "wav/a.wav: label: speaker 'None' looks like a missing value" in problem


def test_audformat_speakers_in_two_spellings_are_refused(folder: Path) -> None:
    (problem,) = refused(audformat_text(folder, "wav/a.wav,joy,3\nwav/b.wav,anger,3.0\nwav/c.wav,joy,4\n"))
    assert "speakers 3, 3.0 differ by the form of a number only" in problem


def test_audformat_values_outside_their_scheme_are_label_problems(folder: Path) -> None:
    (problem,) = refused(audformat_text(folder, "wav/a.wav,joy,x\nwav/b.wav,rage,y\nwav/c.wav,,y\n"))
    assert "wav/b.wav: label: emotion 'rage' in table one is not a label of the scheme emotion (anger, joy)" in problem
    kept = load(f"audformat:{folder}", None, allow_incomplete=True)
    assert [u.id for u in kept.utterances] == ["wav/a.wav"]
    assert "1 file has no emotion and is not used" in kept.remark


def test_audformat_bare_words_of_yaml_are_named(folder: Path) -> None:
    (problem,) = refused(audformat_text(folder, "wav/a.wav,anger,x\nwav/b.wav,no,y\n", labels="[anger, no]"))
    assert "emotion 'no' in table one is not a label of the scheme emotion (anger, False)" in problem
    assert "YAML reads a bare no as true or false: write it in quotes in db.yaml" in problem
    quoted = load(audformat_text(folder, "wav/a.wav,anger,x\nwav/b.wav,no,y\n", labels="[anger, 'no']"), None)
    assert quoted.emotions == ("anger", "no")


def test_audformat_parquet_numbers_become_the_same_text(folder: Path) -> None:
    request = audformat_text(folder, "", "file,speaker\nwav/a.wav,3\nwav/b.wav,4\n")
    table = pd.DataFrame({"file": ["wav/a.wav", "wav/b.wav"], "emotion": ["joy", "anger"], "speaker": [3.0, None]})
    (folder / "db.one.csv").unlink()
    table.to_parquet(folder / "db.one.parquet")
    assert [u.speaker for u in load(request, None).utterances] == ["3", "4"]


def test_audformat_labels_may_stand_in_a_table_of_their_own(folder: Path) -> None:
    request = audformat_text(folder, "wav/a.wav,joy,x\nwav/b.wav,rage,y\n", labels="moods")
    misc = "misc_tables:\n  moods:\n    levels: {emotion: str}\n    columns: {}\n"
    (folder / "db.yaml").write_text((folder / "db.yaml").read_text() + misc)
    (folder / "db.moods.csv").write_text("emotion\nanger\njoy\n")
    (problem,) = refused(request)
    assert "emotion 'rage' in table one is not a label of the scheme emotion (anger, joy)" in problem


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
