"""Sweep files: a request as a file gives what its command line gives, and what is wrong with one is said at once."""

import html
import json
import re

import pytest
import yaml

import tfser
from tests.helpers.own_models import NETWORK, write
from tests.helpers.sweeps import SPACE, arguments, tables_of
from tests.helpers.tiny import SMALL, write_tiny
from tfser import collect
from tfser.errors import RequestError
from tfser.sweep import command, saved, sweep_file
from tfser.sweep.options import parse, parser
from tfser.sweep.request import check
from tfser.sweep.sweep_file_reader import OF_ONE_START, OF_THE_MACHINE, keys_of, options_of

SET = "".join(f"  {name}: {value}\n" for name, value in SMALL.items())


@pytest.fixture
def corpus(tiny_manifest, tmp_path, monkeypatch):
    """A working folder with the small database in corpus/ and a folder sweeps/ for files."""
    (tmp_path / "corpus").symlink_to(tiny_manifest.parent)
    (tmp_path / "sweeps").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(text, capsys, *more, name="my.yaml"):
    """What is said of a file of that text."""
    if text is not None:
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
    capsys.readouterr()
    assert command.main([name, *more]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert "nothing was started" in printed.err
    return printed.err


def test_every_option_is_a_key_or_belongs_to_the_machine_or_to_one_start():
    every, keys = set(options_of(parser())), set(keys_of(parser()))
    assert every > OF_THE_MACHINE | OF_ONE_START
    assert keys >= {"model", "ablation", "protocol", "fold", "seeds", "epochs", "set", "trials", "space", "selection"}
    assert not keys & {"address", "out", "storage", "tracking-uri", "plan", "save", "help", "version"}


def test_a_file_asks_for_what_its_command_line_asks_for(corpus):
    (corpus / "my.yaml").write_text(
        "databases: corpus/tiny.csv\nmodel: time_frequency_transformer\nablation: [T+F+TF, T+F]\nprotocol: speaker\n"
        "seeds: 2\nepochs: 3\nfold: anna\ntrials: 1\nno-pruning: true\nallow-incomplete: false\n"
        f"set:\n{SET}  learning_rate: 1e-4\n",
        encoding="utf-8",
    )
    typed = ["corpus/tiny.csv", "--model", "time_frequency_transformer", "--ablation", "T+F+TF", "T+F", "--seeds", "2"]
    typed += ["--protocol", "speaker", "--epochs", "3", "--fold", "anna", "--trials", "1", "--no-pruning", "--set"]
    typed += [*(f"{name}={value}" for name, value in SMALL.items()), "learning_rate=1e-4"]
    filed, asked = check(parse(["my.yaml"])), check(parse(typed))
    assert (filed.name, filed.plan, filed.request) == (asked.name, asked.plan, asked.request)
    assert filed.options.file.path.name == "my.yaml"
    assert [s.final_specs(s.base, s.epochs) for s in filed.plan.studies] == [
        s.final_specs(s.base, s.epochs) for s in asked.plan.studies
    ]
    again = parse(filed.options.typed)
    assert check(again).plan == asked.plan, "the command of the report asks for the same"


def test_words_mean_what_they_mean_when_they_are_typed(corpus):
    """YAML readers take 010 for 8, no for false and 1e-4 for a word; here each is what was written."""
    (corpus / "my.yaml").write_text(
        "databases:\n  - mine: corpus/tiny.csv\n  - synthetic\nfold: [no, 03, 1:30, ~x, '-3', null x]\n"
        "set: {learning_rate: 1e-4, atfnn.dropout: 0.50}\nname: 2020-01-02\n",
        encoding="utf-8",
    )
    options = parse(["my.yaml"])
    assert options.databases == ["mine=corpus/tiny.csv", "synthetic"]
    assert options.fold == ["no", "03", "1:30", "~x", "-3", "null x"]
    assert options.fixed == ["learning_rate=1e-4", "atfnn.dropout=0.50"]
    assert options.name == "2020-01-02"
    assert options.file.problems == ()


@pytest.mark.full
def test_a_saved_request_gives_the_same_name_trials_and_tables_to_the_byte(tiny_manifest, tmp_path, capsys):
    words = arguments(tiny_manifest, tmp_path / "a", "--trials", "2", "--space", str(SPACE), epochs="1")
    file = tmp_path / "saved.yaml"
    assert command.main([*words, "--save", str(file)]) == 0
    assert f"Saved this request as {file}" in capsys.readouterr().err
    assert command.main([str(file), "--out", str(tmp_path / "b"), "--in-process"]) == 0
    (name,) = [path.name for path in (tmp_path / "a").iterdir() if path.name != ".tfser"]
    assert tables_of(tmp_path / "b" / name) == tables_of(tmp_path / "a" / name)
    ids = [sorted(p.name for p in (tmp_path / f / ".tfser" / "ledger").glob("*/*.json")) for f in ("a", "b")]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4 * 2 + 4
    assert command.main([*words, "--save", str(file)]) == 0, "the same command goes on"
    # Both reports carry it, a collected one too, and what they carry can be run.
    assert collect.main([name, "--storage", str(tmp_path / "b" / ".tfser"), "--out", str(tmp_path / "c")]) == 0
    for folder in ("a", "b", "c"):
        page = html.unescape((tmp_path / folder / name / "report.html").read_text(encoding="utf-8"))
        assert file.read_text(encoding="utf-8").strip() in page
    carried = json.loads((tmp_path / "a" / name / "sweep.json").read_text(encoding="utf-8"))["sweep_file"]
    (tmp_path / "copied.yaml").write_text(carried, encoding="utf-8")
    assert check(parse([str(tmp_path / "copied.yaml")])).plan == check(parse(words)).plan


def test_a_saved_file_holds_what_was_typed_in_one_order_and_nothing_of_the_machine(corpus):
    words = ["mine=corpus/tiny.csv", "--seeds", "2", "--out", "o", "--in-process", "--trial-timeout", "9", "--fold=-3"]
    words += ["--model", "svm", "lda", "--set", "svm.c=1e-3", "standardisation=none", "--model", "svm", "--epochs", "0"]
    options = parse([*words, "--allow-incomplete", "--name", "no"])
    text = saved.request_text(options, corpus)
    assert text == (
        "databases: mine=corpus/tiny.csv\nallow-incomplete: true\nmodel:\n  - svm\n  - lda\n"
        'fold: -3\nseeds: 2\nepochs: 0\nset:\n  svm.c: 1e-3\n  standardisation: none\nname: "no"\n'
    )
    assert yaml.safe_load(text)["model"] == ["svm", "lda"]
    (corpus / "again.yaml").write_text(text, encoding="utf-8")
    again = parse(["again.yaml"])
    assert saved.request_text(again, corpus) == text
    assert (again.databases, again.fold, again.fixed) == (options.databases, options.fold, options.fixed)


def test_paths_are_relative_to_the_file_wherever_it_is_run(corpus, monkeypatch):
    write(corpus, mine=NETWORK)
    (corpus / "space.yaml").write_text("model: Mine\nsearch:\n  learning_rate: {choice: [0.1, 0.2]}\n")
    words = ["corpus/tiny.csv", "--model", "mine.py:Mine", "--trials", "2", "--space", "space.yaml"]
    typed = check(parse(words))
    for file in ("sweeps/my.yaml", str(corpus / "sweeps" / "other.yaml")):
        saved.write(parse([*words, "--save", file]))
        assert check(parse([file])).name == typed.name
    text = (corpus / "sweeps" / "my.yaml").read_text(encoding="utf-8")
    assert "databases: ../corpus/tiny.csv\n" in text
    assert "model: ../mine.py:Mine\n" in text
    assert "space: ../space.yaml\n" in text
    (corpus / "elsewhere").mkdir()
    monkeypatch.chdir(corpus / "elsewhere")
    there = check(parse(["../sweeps/my.yaml"]))
    assert [s.search_specs(s.base) for s in there.plan.studies] == [s.search_specs(s.base) for s in typed.plan.studies]
    monkeypatch.chdir(corpus / "sweeps")
    assert check(parse(["my.yaml"])).plan.studies[0].name == typed.plan.studies[0].name


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("synthetic", "synthetic"),
        ("labels.csv", "X/labels.csv"),
        ("mine=a/labels.csv", "mine=X/a/labels.csv"),
        ("audformat:db", "audformat:X/db"),
        ("mine=audformat:db", "mine=audformat:X/db"),
        ("no_such_name", "no_such_name"),
    ],
)
def test_only_the_path_in_a_request_for_a_database_moves(word, changed):
    from tfser.sweep.sweep_file_paths import database_path

    assert database_path(word, lambda path: f"X/{path}") == changed


def test_absolute_paths_and_uris_stay(tmp_path):
    from tfser.sweep.sweep_file_paths import from_here, seen_from

    for path in ("/a/b.csv", "s3://bucket/b.csv", "~/b.csv"):
        assert from_here(path, tmp_path) == seen_from(path, tmp_path) == path


def test_everything_that_is_wrong_with_a_file_is_said_at_once_with_its_line(corpus, capsys):
    said = refused(
        "databases: corpus/tiny.csv\nmodle: svm\nseeds: many\nepochs: [1, 2]\nprotocol: Speaker\nseeds: 3\n"
        "fold:\nablation: []\nno-pruning: perhaps\nset: [a]\nout: x\nplan: true\nname: {a: b}\nmodel: [svm, [lda]]\n"
        "selection: nestd\ndata: ''\n",
        capsys,
    )
    for expected in (
        "my.yaml line 2: key: no 'modle' (did you mean 'model'?)",
        "my.yaml line 3: seeds: 'many' is not a whole number",
        "my.yaml line 4: epochs: it takes one value, not a list",
        "my.yaml line 5: --protocol: no 'Speaker'; there are",
        "my.yaml line 6: seeds: it stands twice (line 3 too)",
        "my.yaml line 7: fold: it has no value; give it one, or leave it out",
        "my.yaml line 8: ablation: the list is empty",
        "my.yaml line 9: no-pruning: 'perhaps' is neither true nor false",
        "my.yaml line 10: set: it has to be a mapping of settings to values",
        "my.yaml line 11: out: it is of the machine that runs the sweep; type --out beside the file",
        "my.yaml line 12: plan: it is of one start; type --plan beside the file",
        "my.yaml line 13: name: here it takes one value, not a mapping",
        "my.yaml line 14: model: here it takes one value, not a list",
        "my.yaml line 15: --selection: no 'nestd'",
        "my.yaml line 16: data: it is empty",
    ):
        assert expected in said, f"{expected}\n\n{said}"
    assert said.startswith("tfser sweep: 15 problems")
    lines = [int(line) for line in re.findall(r"my.yaml line (\d+): (?!--)", said)]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "it has to be a mapping with the key databases"),
        ("", "it has to be a mapping with the key databases"),
        ("just words", "it has to be a mapping with the key databases"),
        ("seeds: 2\n", "my.yaml: the key databases is missing; it names what is trained on"),
        ("databases:\n", "line 1: databases: it has no value"),
        ("databases: []\n", "databases: none is named"),
        ("databases: [other.yaml]\n", "'other.yaml' is no database; a sweep file holds no other"),
        ("databases: [--plan]\n", "'--plan' is no database; options have keys of their own"),
        ("databases: a: b\n", "line 1: mapping values are not allowed in this context"),
        ("databases: synthetic\n? [a, b]\n: c\n", "line 2: while constructing a mapping, found unhashable key"),
        ("databases: synthetic\nset: {channels: {a: 1}}\n", "set.channels: here it takes one value, not a mapping"),
        ("databases: synthetic\nset: {chanels: 3}\n", "my.yaml line 2: --set: no 'chanels' (did you mean 'channels'?)"),
        ("databases: synthetic\nset:\n  dropout: 0.1\n  dropout: 0.2\n", "set.dropout: it stands twice (line 3 too)"),
        ("databases: casla\n", "no 'casla'; there are"),
        ("databases: synthetic\nname: x\nschemes: {}\n", "an audformat database is named audformat:FOLDER"),
        ("databases: synthetic\nepochs: 0\n", "my.yaml line 2: --epochs: 0 is below 1"),
        ("databases: !!python/object:os.system x\n", "Python objects are not made"),
        (None, "no such file; --save writes one from a command line"),
    ],
)
def test_a_file_that_is_none_is_refused_with_what_would_be_one(corpus, capsys, text, expected):
    assert expected in refused(text, capsys)
    assert not (corpus / "results").exists()


def test_a_file_with_something_beside_it_that_is_no_option_is_refused(corpus, capsys):
    (corpus / "a.yaml").write_text("databases: synthetic\n")
    (corpus / "b.yml").write_text("databases: synthetic\n")
    assert "there are 2 sweep files, a.yaml, b.yml" in refused(None, capsys, "b.yml", name="a.yaml")
    assert "there are 2 sweep files, a.yaml, a.yaml" in refused(None, capsys, "a.yaml", name="a.yaml")
    said = refused(None, capsys, "synthetic", name="a.yaml")
    assert "a.yaml is a sweep file, which names its databases itself; add synthetic to its databases" in said
    assert "a sweep file has no name in front" in refused(None, capsys, name="x=a.yaml")
    assert "a sweep file lies on this machine" in refused(None, capsys, name="s3://bucket/a.yaml")


def test_what_is_typed_beside_a_file_takes_the_place_of_the_same_key_and_that_is_said(corpus, capsys):
    (corpus / "my.yaml").write_text(
        f"databases: corpus/tiny.csv\nmodel: time_frequency_transformer\nepochs: 2\nfold: [anna, bert]\nset:\n{SET}"
    )
    more = ["--fold", "carl", "--seeds", "2", "--set", "channels=3", "--out", "o", "--plan"]
    options = parse(["my.yaml", *more])
    said = command.describe(check(options))
    assert "asked for in my.yaml" in said
    assert "--fold carl takes the place of fold anna bert in my.yaml" in said
    assert (options.fold, options.seeds, options.epochs, str(options.out)) == (["carl"], 2, 2, "o")
    assert "channels=3" in options.fixed
    assert "channels=2" not in options.fixed
    assert f"n_mels={SMALL['n_mels']}" in options.fixed
    assert "--plan" in options.typed
    assert "line" not in refused(None, capsys, "--fold", "emil"), "what was typed has no line in the file"


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ("labels.csv", "--save labels.csv: a sweep file is told by its ending; name it labels.csv.yaml"),
        ("none/my.yaml", "--save none/my.yaml: there is no folder none"),
        (
            "there.yaml",
            "--save there.yaml: something is there that asks for something else",
        ),
        ("", "--save: it is empty"),
    ],
)
def test_a_place_where_nothing_can_be_saved_is_refused_before_anything_starts(corpus, capsys, save, expected):
    (corpus / "there.yaml").write_text("databases: synthetic\n")
    words = ["corpus/tiny.csv", "--epochs", "1", "--out", "o", "--save", save]
    if save == "":
        with pytest.raises(SystemExit):
            command.main(words)
        assert "argument --save: it is empty" in capsys.readouterr().err
    else:
        assert command.main(words) == 2
        assert expected in capsys.readouterr().err
    assert (corpus / "there.yaml").read_text() == "databases: synthetic\n"
    assert not (corpus / "o").exists()


def test_a_request_with_a_password_is_not_saved(corpus, capsys):
    words = ["corpus/tiny.csv", "--data", "ftp://anna:s3cr3t@127.0.0.1/x", "--save", "my.yaml"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfser.sweep.saved.request_text", lambda *a: "data: ftp://anna:s3cr3t@host/x\n")
        words = ["corpus/tiny.csv", "--save", "my.yaml", "--plan"]
        assert command.main(words) == 2
    assert "--save my.yaml: the request holds a password" in capsys.readouterr().err
    assert not (corpus / "my.yaml").exists()


def test_a_wrong_request_is_not_saved(corpus, capsys):
    assert command.main(["corpus/tiny.csv", "--epochs", "0", "--save", "my.yaml"]) == 2
    assert not (corpus / "my.yaml").exists()


def test_a_plan_of_a_file_is_that_of_its_command_line(corpus, capsys):
    words = ["corpus/tiny.csv", "--epochs", "1", "--seeds", "2", "--model", "time_frequency_transformer"]
    words += ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    assert command.main([*words, "--plan", "--json", "--save", "sweeps/my.yaml"]) == 0
    typed = json.loads(capsys.readouterr().out)
    assert command.main(["sweeps/my.yaml", "--plan", "--json"]) == 0
    filed = json.loads(capsys.readouterr().out)
    for each in (typed, filed):  # what is measured anew at each start
        for name in ("cost", "memory"):
            del each[name]
        del each["disk"]["free"]
    assert filed == typed
    assert sorted(path.name for path in corpus.iterdir()) == ["corpus", "sweeps"]


def test_the_functions_for_notebooks_take_a_file_and_save_one(corpus):
    said = tfser.describe("corpus/tiny.csv", epochs=1, seeds=2, save="my.yaml")
    assert "databases: corpus/tiny.csv\nseeds: 2\nepochs: 1\n" in (corpus / "my.yaml").read_text()
    assert tfser.describe("my.yaml").name == said.name
    assert tfser.describe("my.yaml", seeds=3).final_trials == said.final_trials // 2 * 3
    with pytest.raises(RequestError, match="there are 2 sweep files"):
        tfser.describe("my.yaml", "my.yaml")


def test_the_demonstration_can_be_a_file(corpus):
    (corpus / "demo.yaml").write_text("databases: synthetic\n")
    assert check(parse(["demo.yaml"])).name == "synthetic"


@pytest.mark.full
def test_a_manifest_in_a_folder_named_like_a_file_is_a_database(tmp_path):
    manifest = write_tiny(tmp_path / "corpus.yaml")
    options = parse(arguments(manifest, tmp_path / "out"))
    assert options.file is None
    assert check(options).plan.final_trials == 4


def test_words_that_yaml_readers_take_otherwise_are_in_quotes():
    for word in ("no", "null", "~", "-x", "#a", "a: b", "a#b", "ä", "", "010", "a b", "@a", "'"):
        written = sweep_file._scalar(word)
        assert yaml.safe_load(f"key: {written}") == {"key": word}, written
    for word in ("svm", "mine.py:Mine", "T+F+TF", "../a/b.csv", "mine=a/b.csv", "s3://bucket/x", "1e-4", "16", "0.5"):
        assert sweep_file._scalar(word) == word
