"""An option that takes one value is not given two different ones, in any command: the last would win in silence."""

import argparse

import pytest

from tfser.commands import COMMANDS
from tfser.completion import contents
from tfser.sweep import command as sweep_command
from tfser.sweep.options import parse
from tfser.text.parser import Parser


def of_parser(parser, words):
    """The words that a parser, or one of its own commands, needs in front of an option, and the option; of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield from of_parser(each, [*words, name])
            return
    needed = [[*(a.choices or ["x"])][0] for a in parser._actions if not a.option_strings and a.nargs in (None, 1, "+")]
    for action in parser._actions:
        if action.option_strings and type(action).__name__ in ("_StoreAction", "_Once"):
            yield [*words, *needed], action


@pytest.mark.parametrize("command", COMMANDS)
def test_two_values_of_an_option_that_takes_one_are_refused(command, capsys):
    parser = contents._parser(command)
    for words, action in of_parser(parser, []):
        option, values = action.option_strings[-1], [*(action.choices or ("2", "3"))]
        for both in ([f"{option}={values[0]}", option, values[1]], [option, values[0], option, values[1]]):
            with pytest.raises(SystemExit) as end:
                parser.parse_args([*words, *both])
            assert end.value.code == 2
            said = capsys.readouterr().err
            assert f"{option}: given twice, as {values[0]}" in said
            assert f"and as {values[1]}" in said
            assert "leave one of the two out" in said
        once = parser.parse_args([*words, option, values[0]])
        assert parser.parse_args([*words, option, values[0], option, values[0]]) == once


def test_the_same_parser_reads_one_command_line_after_another():
    p = Parser()
    p.add_argument("--seeds", type=int, default=1)
    assert [p.parse_args(words).seeds for words in (["--seeds", "2"], ["--seeds", "3"], [])] == [2, 3, 1]


def test_a_uri_that_may_hold_a_password_is_not_shown(capsys):
    uris = [f"http://anna:secret{i}@host:5000" for i in range(2)]
    with pytest.raises(SystemExit):
        parse(["synthetic", "--tracking-uri", uris[0], "--tracking-uri", uris[1]])
    said = capsys.readouterr().err
    assert "--tracking-uri: given twice; leave one of the two out" in said
    assert "secret" not in said


def test_nothing_is_planned_for_two_numbers_of_seeds(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        sweep_command.main(["synthetic", "--plan", "--seeds", "2", "--seeds", "3", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "--seeds: given twice, as 2 and as 3; leave one of the two out" in capsys.readouterr().err


def test_ablations_to_check_add_up_where_they_are_given_twice():
    read = contents._parser("models").parse_args(["check", "atfnn", "--ablation", "ATNN", "--ablation", "AFNN", "TFNN"])
    assert read.ablation == ["ATNN", "AFNN", "TFNN"]
