"""`check`: one complete report for any disk, the JSON that other tools read, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers import trees
from tfser.audio.files import Waveform
from tfser.databases import KNOWN, load
from tfser.databases.base import HARMLESS_KINDS, PROBLEM_KINDS, DatabaseInfo
from tfser.databases.checks import check, waveform_problems
from tfser.databases.command import main
from tfser.errors import RequestError

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("TFSER_DATA") or REPOSITORY.parent / "shared" / "data")

needs_emodb = pytest.mark.skipif(
    not (DATA / "emodb" / "wav").is_dir(), reason="no real EmoDB: set TFSER_DATA to a folder with emodb/wav"
)


@pytest.fixture(scope="module")
def emodb_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.emodb_tree(tmp_path_factory.mktemp("data"))


@pytest.fixture
def emodb(emodb_tree: Path, tmp_path: Path) -> Path:
    """A made-up EmoDB that may be changed; returns the folder of its files."""
    wav = tmp_path / "emodb" / "wav"
    wav.mkdir(parents=True)
    for path in (emodb_tree / "wav").iterdir():
        (wav / path.name).hardlink_to(path)
    return wav


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def run_json(
    capsys: pytest.CaptureFixture[str], *argv: str
) -> tuple[int, dict[str, object], dict[str, list[tuple[str, str]]]]:
    code = main(["check", *argv, "--json"])
    report = json.loads(capsys.readouterr().out)
    kinds: dict[str, list[tuple[str, str]]] = {}
    for problem in report["problems"]:
        assert set(problem) == {"kind", "path", "detail"}
        assert problem["kind"] in PROBLEM_KINDS
        kinds.setdefault(problem["kind"], []).append((problem["path"], problem["detail"]))
    return code, report, kinds


def test_a_complete_database_exits_0_with_the_agreed_json(emodb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, kinds = run_json(capsys, "emodb", "--data", str(emodb.parents[1]))
    assert code == 0
    assert (report["database"], report["complete"], report["utterances"]) == ("emodb", True, 535)
    assert report["emotions"] == KNOWN["emodb"].info.expected_emotions
    assert report["speakers"]["08"]["utterances"] == 58  # type: ignore[index]
    assert report["speakers"]["08"]["emotions"]["disgust"] == 0  # type: ignore[index]
    assert report["minutes"] == pytest.approx(535 * 0.125 / 60, abs=1e-3)
    assert list(kinds) == ["note"]


def test_a_wrong_request_exits_2_with_the_same_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = run_json(capsys, "emodb", "--data", str(tmp_path))
    assert code == 2
    assert not report["complete"]
    assert {"database", "utterances", "minutes", "emotions", "speakers", "problems"} <= set(report)
    assert main(["check", "emdb"]) == 2
    assert "did you mean 'emodb'" in capsys.readouterr().err


def test_the_environment_names_the_data(
    emodb: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TFSER_DATA", str(emodb.parents[1]))
    assert main(["check", "emodb"]) == 0
    text = capsys.readouterr().out
    for part in (
        "speaker",
        "anger",
        "535 utterances, 10 speakers, 1.1 minutes; 16000 Hz (535)",
        "median 0.12",
        "emodb: complete",
    ):
        assert part in text


def test_list_and_describe_show_every_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name, reader in KNOWN.items():
        assert name in listed
        assert main(["describe", name]) == 0
        text = "".join(capsys.readouterr().out.split())
        for part in (reader.info.licence, reader.info.homepage, reader.info.layout):
            assert "".join(part.split()) in text
    assert main(["describe", "iemocp"]) == 2


def test_the_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tfser.databases", "list"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def damage(wav: Path) -> dict[str, str]:
    """Damages one file for every kind; the file to the kind that has to be reported."""
    files = sorted(path for path in wav.iterdir() if path.stem[:2] == "03")
    rng = np.random.default_rng(1)
    expected: dict[str, str] = {}

    def hit(kind: str) -> Path:
        path = files.pop()
        expected[str(path)] = kind
        return path

    path = hit("unreadable")
    replace(path, path.read_bytes()[: path.stat().st_size // 2])
    replace(hit("empty"), b"")
    replace(hit("unreadable"), b"this was a text\n" * 300)
    for kind, samples, rate in (
        ("non-finite", np.where(np.arange(4000) == 9, np.nan, 0.1), 16_000),
        ("silent", np.full(4000, 1e-6), 16_000),
        ("clipped", np.clip(rng.standard_normal(4000) * 4, -1, 1), 16_000),
        ("too short", rng.uniform(-0.1, 0.1, 100), 16_000),
        ("rate", rng.uniform(-0.1, 0.1, 4000), 8_000),
        ("channels", rng.uniform(-0.1, 0.1, (4000, 2)), 16_000),
    ):
        path = hit(kind)
        path.unlink()
        del expected[str(path)]
        path = path.with_suffix(".wav")
        soundfile.write(path, samples, rate, subtype="FLOAT")
        expected[str(path)] = kind
    path = hit("unreadable")
    path.unlink()
    path.mkdir()
    path = hit("missing")
    path.unlink()
    path.symlink_to("nowhere.wav")
    path, other = files.pop(), sorted(p for p in wav.iterdir() if p.stem[:2] == "09")[-1]
    replace(other, path.read_bytes())
    expected[str(other)] = "duplicate"
    for name in ("a b.wav", 'it\'s "a".wav', "two\nlines.wav", "语音.wav", os.fsdecode(b"\xff\xfe.wav")):
        (wav / name).write_bytes(trees.wav_bytes(999))
        expected[
            str(wav / name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")
        ] = "label"
    return expected


def assert_all_reported(wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = damage(wav)
    code, report, kinds = run_json(capsys, "emodb", "--data", str(wav.parent))
    assert code == 1
    assert not report["complete"]
    for path, kind in expected.items():
        assert path in [p for p, _ in kinds[kind]], (kind, path)
    assert any("expected 535 utterances, found 533 (-2)" in detail for _, detail in kinds["count"])
    unexpected = {p for k, found in kinds.items() if k not in ("count", "note") for p, _ in found} - set(expected)
    assert not unexpected
    assert main(["check", "emodb", "--data", str(wav.parent)]) == 1
    text = capsys.readouterr().out
    assert "Traceback" not in text
    assert "readable, with problems" in text


def test_every_kind_of_damage_is_in_one_report(emodb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_all_reported(emodb, capsys)


def test_a_refusal_can_name_what_only_decoding_shows_too(emodb: Path) -> None:
    expected = damage(emodb)
    with pytest.raises(RequestError) as refusal:
        load("emodb", emodb.parent, decode=True)
    text = str(refusal.value)
    for path, kind in expected.items():
        assert kind in HARMLESS_KINDS or (path in text and f": {kind}: " in text)
    with pytest.raises(RequestError) as brief:
        load("emodb", emodb.parent)
    assert "silent" in text
    assert "silent" not in str(brief.value)


@needs_emodb
def test_a_damaged_copy_of_the_real_emodb_gives_one_complete_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav = tmp_path / "emodb" / "wav"
    wav.mkdir(parents=True)
    for path in (DATA / "emodb" / "wav").iterdir():
        (wav / path.name).symlink_to(path.resolve())
    assert_all_reported(wav, capsys)


@needs_emodb
def test_the_real_emodb_is_complete_and_says_that_it_is_shortened_where_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, report, kinds = run_json(capsys, "emodb", "--data", str(DATA))
    assert code == 0
    assert report["utterances"] == 535
    assert list(kinds) == ["note"]
    if (DATA / "emodb" / "manifest.csv").is_file():
        assert "first 2 s" in str(report["remark"])


def test_a_file_and_a_folder_without_permission_are_reported(emodb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(emodb.iterdir())[0]
    replace(path, trees.wav_bytes(1))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user (root) may read everything")
    closed = emodb / "closed"
    closed.mkdir(mode=0)
    try:
        _, _, kinds = run_json(capsys, "emodb", "--data", str(emodb.parent))
    finally:
        closed.chmod(0o700)
    assert {p for p, _ in kinds["unreadable"]} == {str(path), str(closed)}


def test_the_same_audio_of_two_speakers_is_called_what_it_is(emodb: Path) -> None:
    files = sorted(emodb.iterdir())
    mine, theirs = files[0], next(path for path in files if path.stem[:2] == "16")
    replace(theirs, mine.read_bytes())
    report = check("emodb", emodb)
    assert any(p.kind == "duplicate" and "of another speaker (16, there 03)" in p.detail for p in report.problems)


def test_the_same_audio_in_another_format_is_a_duplicate_too(emodb: Path) -> None:
    files = sorted(emodb.iterdir())
    samples, rate = soundfile.read(files[0], dtype="int16")
    files[1].unlink()
    soundfile.write(files[1].with_suffix(".flac"), samples, rate)
    assert [p.kind for p in check("emodb", emodb).problems if p.kind != "note"] == ["duplicate"]


TONE = np.sin(np.arange(8000) / 5)[None]


@pytest.mark.parametrize(
    ("samples", "rate", "kinds"),
    [
        (0.1 * TONE, 16_000, []),
        (np.zeros((1, 8000)), 16_000, ["silent"]),
        (0.1 * TONE[:, :100], 16_000, ["too short"]),
        (np.tile(0.1 * TONE, (2, 1)), 16_000, ["channels"]),
        (0.1 * TONE, 44_100, ["rate"]),
        (np.clip(2 * TONE, -1, 1), 16_000, ["clipped"]),
        (np.where(np.arange(8000) == 5, 1.0, 0.1)[None], 16_000, []),
        (0.9 + 1e-3 * TONE, 16_000, []),
        (np.concatenate([TONE, 0 * TONE]) / 2, 16_000, ["channels"]),
        (np.zeros((3, 0)), 8_000, ["too short", "silent", "rate", "channels"]),
    ],
)
def test_one_waveform_is_judged_alone(samples: np.ndarray, rate: int, kinds: list[str]) -> None:
    info: DatabaseInfo = KNOWN["emodb"].info
    found = waveform_problems(Waveform(samples.astype(np.float32), rate), info, "x.wav")
    assert [p.kind for p in found] == kinds
    assert all(p.path == "x.wav" for p in found)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.full((1, 8000), 0.1), "its loudest sample is exact zero beside a constant of 0.1, full scale is 0 dB"),
        (np.full((1, 8000), -1.0), "its loudest sample is exact zero beside a constant of -1, full scale is 0 dB"),
        (0.5 + 1e-5 * TONE, "its loudest sample is -100 dB beside a constant of 0.5, full scale is 0 dB"),
        (
            np.concatenate([0.5 * TONE, -0.5 * TONE]),
            "the loudest sample of the mean of its channels is exact zero: they cancel each other, keep one of them",
        ),
        (np.full((1, 8000), 1e-5), "its loudest sample is exact zero, full scale is 0 dB"),
    ],
)
def test_a_constant_and_channels_that_cancel_are_no_sound(samples: np.ndarray, said: str) -> None:
    info: DatabaseInfo = KNOWN["emodb"].info
    found = waveform_problems(Waveform(samples.astype(np.float32), 16_000), info, "x.wav")
    (problem,) = (p for p in found if p.kind != "channels")
    assert (problem.kind, problem.detail) == ("silent", f"{said}; nothing can be heard below -70 dB")


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        (["a,anna,joy,s1", "b,bert,joy,s2"], 0, ""),
        (["a,anna,joy,s1", "b,anna,anger,s2"], 1, "it has 1 speaker: leave-one-out needs at least 2"),
        (["a,anna,joy,s1", "b,anna,anger,s2", "c,bert,joy,s2"], 0, "speaker anna is in sessions s1, s2"),
        (["a,anna,joy,s1", "b,bert,joy,s1"], 0, "it has 1 session: leave-one-out needs at least 2"),
    ],
)
def test_check_says_what_a_sweep_would_refuse(
    rows: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, row in enumerate(rows):
        (tmp_path / row[0]).write_bytes(trees.wav_bytes(number))
    (tmp_path / "m.csv").write_text("\n".join(["path,speaker,emotion,session", *rows]))
    assert main(["check", str(tmp_path / "m.csv")]) == code
    text = capsys.readouterr().out
    assert said in text
    assert ("leave-one-out" in said or "is in sessions" in said) == ("--protocol" in text)


def test_check_prints_one_line_for_each_kind_and_lists_all_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{n},anna,joy" for n in range(40)] + ["a,anna,joy", "b,bert,joy"]
    for number, name in enumerate("ab"):
        (tmp_path / name).write_bytes(trees.wav_bytes(number))
    (tmp_path / "m.csv").write_text("\n".join(["path,speaker,emotion", *rows]))
    assert main(["check", str(tmp_path / "m.csv")]) == 1
    text = capsys.readouterr().out
    assert text.count("is not there") == 2  # once in what the kind means
    assert "(40 of this kind; also line 3, " in text
    code, _, kinds = run_json(capsys, str(tmp_path / "m.csv"))
    assert (code, len(kinds["missing"])) == (1, 40)
