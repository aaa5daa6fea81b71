"""What a database cannot be used for is said before anything starts, however little is wrong with its files."""

from dataclasses import replace

import pytest

from tfser.planning import fold_checks
from tfser.planning.request import Request
from tfser.sweep import command as sweep_command


def kept(tiny, *, speakers=("anna", "bert", "carl", "dora"), emotions=("calm", "glad", "tense")):
    utterances = tuple(u for u in tiny.utterances if u.speaker in speakers and u.emotion in emotions)
    return replace(tiny, info=replace(tiny.info, emotions=emotions), utterances=utterances)


@pytest.mark.parametrize("protocol", ["speaker", "session"])
def test_a_database_of_one_emotion_is_refused_beside_what_else_is_wrong_with_it(tiny, protocol):
    said = fold_checks.problems(Request(protocol=protocol, folds=("annA",)), kept(tiny, emotions=("glad",)), {})
    assert said[0] == (
        "tiny: all of its utterances are glad; telling emotions apart needs two or more; add utterances of another, "
        "or correct their labels"
    )
    assert "--fold: no 'annA'" in said[1]
    assert fold_checks.problems(Request(protocol=protocol), kept(tiny, emotions=("calm", "glad")), {}) == []


def test_nothing_is_started_on_a_manifest_of_one_emotion(tiny_manifest, tmp_path, capsys):
    lines = tiny_manifest.read_text(encoding="utf-8").splitlines()
    rows = [line.replace(",calm,", ",glad,").replace(",tense,", ",glad,") for line in lines]
    alike = tiny_manifest.with_name("alike.csv")
    alike.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert sweep_command.main([str(alike), "--model", "svm", "--in-process", "--out", str(tmp_path / "out")]) == 2
    assert "alike: all of its utterances are glad" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
