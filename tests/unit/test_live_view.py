"""What a person sees while a sweep runs: a block that moves in a terminal, a line now and then in a log."""

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from tests.helpers.studies import MODEL, make_plan, train
from tests.helpers.sweeps import search_arguments, tables_of
from tests.helpers.terminal import Screen, columns
from tfser.execution.on_ray.mailbox import EVERY_S, Mailbox, Sender
from tfser.execution.schedule import Schedule
from tfser.execution.under_way import Epoch, UnderWay
from tfser.planning import plan, request
from tfser.search.study import open_storage
from tfser.storage.ledger import Ledger
from tfser.sweep import command
from tfser.sweep.live import SILENT_S, Display, is_live
from tfser.sweep.picture import Picture, cut, shortened
from tfser.sweep.printer import Printer
from tfser.sweep.progress import View
from tfser.trial import TrialSpec


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        return True


def terminal(width=100, height=30, encoding="utf-8", **environment):
    stream = Terminal()
    stream.encoding = encoding
    return Console(
        file=stream, width=width, height=height, _environ={"TERM": "xterm", **environment}, force_jupyter=False
    )


class Sweep:
    """A sweep with a clock that a test turns, and what it shows."""

    def __init__(self, made, folder, console=None, workers=2):
        self.clock = Clock()
        self.console = console or Console(file=io.StringIO(), width=80)
        self.view = View(made, self.console)
        self.schedule = Schedule(
            made, Ledger(folder / "ledger"), open_storage(folder / "studies.journal"), watch=self.view.ended
        )
        self.under_way = self.schedule.under_way
        self.under_way.clock = self.clock
        self.picture = Picture(self.view, self.schedule, lambda: workers)
        self.display = Display(self.console, self.clock, tick_s=None)

    def begin(self, count=1):
        specs = [self.schedule.next() for _ in range(count)]
        for spec in specs:
            self.under_way.begin([spec])
        return specs

    def turn(self, seconds, then=lambda: None):
        """Let time pass, second by second, and return what was written at each, as (second, text)."""
        written = []
        for _ in range(seconds):
            before = self.console.file.tell()
            self.clock.now += 1
            then()
            self.display.tick()
            written.append((self.clock.now, self.console.file.getvalue()[before:]))
        return written


def lines(sweep, width, height=40):
    return [line.plain for line in sweep.picture.picture(width, height)]


def of_terminal(console):
    screen = Screen()
    screen.write(console.file.getvalue())
    return screen


@pytest.fixture
def search(tiny, tmp_path):
    return Sweep(make_plan(tiny, trials=3), tmp_path, terminal())


# A terminal


def test_a_sweep_whose_first_trial_takes_four_minutes_moves_every_five_seconds(search):
    """Before the first epoch too, which takes a minute; the recording has a text for every second."""
    sweep = search
    with sweep.display, sweep.display.showing(sweep.picture):
        (spec,) = sweep.begin()

        def train_on():
            if sweep.clock.now % 60 == 0:
                epoch = int(sweep.clock.now // 60)
                said = Epoch(spec.trial_id, epoch, 0.3 + epoch / 100, trained=epoch, seconds=60.0 * epoch)
                sweep.under_way.tell(said)

        recording, shown = sweep.turn(240, train_on), []
        for at, _ in recording[::5]:
            screen = Screen()
            screen.write("".join(text for second, text in recording if second <= at))
            shown.append(screen.text)
    assert all(one != other for one, other in zip(shown, shown[1:], strict=False))
    assert "search anna  3 of 4    33.0 %  3:56" in shown[-1]
    assert "0 of 16 trials done, 1 running, 15 waiting  3:56 so far, about 30 min left" in shown[-1]
    assert "left" not in shown[11], "nothing is known before the first epoch"


def test_every_stage_before_training_moves_from_its_first_seconds_on(search):
    with search.display as display:
        for what in ("reading emodb", "hashing the audio of emodb", "starting Ray on this machine"):
            display.doing(what)
            shown = [of_terminal(search.console).text for _ in range(3) if search.turn(4)]
            assert [what in text for text in shown] == [True] * 3
            assert len(set(shown)) == 3


def test_a_stage_that_counts_goes_on_with_its_own_time(search):
    with search.display as display:
        for part in (1, 2):
            display.doing(f"extracting features of emodb: {part} of 2 parts")
            search.turn(7)
        assert of_terminal(search.console).text == "extracting features of emodb: 2 of 2 parts (0:14)"


def test_a_trial_that_was_handed_out_and_has_no_worker_does_not_run(search):
    search.schedule.next()
    assert search.schedule.running == 1
    assert "0 running (no worker yet), 16 waiting" in lines(search, 100)[-1]
    (spec,) = search.begin()
    assert "1 running, 15 waiting" in lines(search, 100)[-1]
    search.schedule.put_back(spec)
    assert "0 running, 16 waiting" in lines(search, 100)[-1]


def test_trials_that_ended_leave_the_block_and_what_they_said_stays_above_it(search):
    with search.display, search.display.showing(search.picture):
        first, second = search.begin(2)
        search.turn(2)
        search.schedule.ended(first, train(first))
        search.turn(2)
        text = of_terminal(search.console).text
    line = f"[1/16] search tiny {first.fold} {first.ablation} seed 0: validation UAR up to"
    assert text.count(line) == 1
    assert text.index(line) < text.index(f"search {second.fold}", text.index("running"))
    assert "1 of 16 trials done, 1 running, 14 waiting" in text
    assert of_terminal(search.console).text.splitlines()[-1].startswith(line), "the block goes at the end"


@pytest.mark.parametrize("width", [60, 61, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_whatever_the_names(tiny, tmp_path, width):
    """A database and speakers with long names, of wide and of combining letters."""
    names = {"anna": "语音" * 30, "bert": "e\N{COMBINING ACUTE ACCENT}" * 70, "carl": "x" * 300, "dora": "d\x1b[2J\n"}
    long = dataclasses.replace(
        tiny,
        info=dataclasses.replace(tiny.info, name="a-database-with-a-name-that-goes-on-and-on-until-the-line-is-full"),
        utterances=tuple(dataclasses.replace(u, speaker=names[u.speaker]) for u in tiny.utterances),
    )
    asked = request.Request(models=(MODEL,), ablations=("T+F", "T+F+TF"), epochs=1000, seeds=2)
    sweep = Sweep(plan.make(asked, [long, tiny], lambda d: d.name, {}), tmp_path, terminal(width))
    for spec in sweep.begin(24):
        sweep.under_way.tell(Epoch(spec.trial_id, 999, 0.5, 999, 999.0))
    for spec in sweep.begin(4):
        sweep.schedule.ended(spec, train(spec))
    shown = lines(sweep, width)
    assert max(map(columns, shown)) <= width
    assert not any("\x1b" in line or "\n" in line for line in shown)
    assert sum("999 of 1000" in line for line in shown) == 24
    status = " ".join(shown[-2:])
    assert "4 of 32 trials done, 24 running, 4 waiting" in status
    assert re.search(r"about .* left", status)


@pytest.mark.parametrize(("height", "shown"), [(24, 22), (50, 48), (8, 6)])
def test_of_a_hundred_running_trials_as_many_are_shown_as_fit_and_the_rest_is_counted(tiny, tmp_path, height, shown):
    made = plan.make(request.Request(models=(MODEL,), epochs=9, seeds=30), [tiny], lambda d: "d", {})
    sweep = Sweep(made, tmp_path, terminal(100, height), workers=100)
    sweep.begin(100)
    with sweep.display, sweep.display.showing(sweep.picture):
        sweep.turn(1)
        text = of_terminal(sweep.console).text.splitlines()
    assert len(text) == shown
    trials = sum(line.startswith("final ") for line in text)
    assert f"and {100 - trials} more" in text
    assert "0 of 120 trials done, 100 running, 20 waiting" in text[-1]


def test_after_a_resize_the_block_has_the_new_size(search):
    with search.display, search.display.showing(search.picture):
        for spec in search.begin(2):
            search.under_way.tell(Epoch(spec.trial_id, 2, 0.5, 2, 7.0))
        search.turn(2)
        wide = of_terminal(search.console).text
        search.console.size = (60, 12)
        search.turn(2)
        narrow = of_terminal(search.console).text.splitlines()
    assert max(map(columns, wide.splitlines())) > 60
    assert max(map(columns, narrow)) < 60
    assert sum("running" in line for line in narrow) == 2, "the old block is gone"


def test_names_are_shortened_word_by_word_and_wide_letters_count_twice():
    assert shortened(["search", "a" * 30, "anna"], 20) == "search aaaaaaa… anna"
    assert cut("语音情感", 5) == "语音…"
    assert columns(cut("语音情感识别", 6)) <= 6
    assert shortened(["语音情感识别语音情感识别", "anna"], 12) == "语音情… anna"
    assert all(columns(shortened(["search", "语音" * 9, "b" * 20], width)) <= width for width in range(1, 60))


def test_letters_that_the_terminal_lacks_break_no_line(tiny, tmp_path):
    named = dataclasses.replace(
        tiny, utterances=tuple(dataclasses.replace(u, speaker=f"说话人{u.speaker}" * 4) for u in tiny.utterances)
    )
    made = plan.make(request.Request(models=(MODEL,), epochs=2), [named], lambda d: "d", {})
    sweep = Sweep(made, tmp_path, terminal(60, encoding="ascii"))
    with sweep.display, sweep.display.showing(sweep.picture):
        sweep.begin(3)
        sweep.turn(2)
        text = of_terminal(sweep.console).text
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 60


def test_an_interrupt_leaves_the_last_block_and_a_cursor_and_says_what_is_kept(search):
    printer = Printer(search.console)
    printer.live = search.display

    def interrupted():
        with search.display, search.display.showing(search.picture):
            search.begin()
            search.turn(3)
            printer.say_interrupted("s", "0 of 16 trials are done.")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    screen = of_terminal(search.console)
    assert screen.cursor_shown
    kept = "What was finished is kept; the same command goes on from there (sweep s)."
    assert screen.text.splitlines()[-1] == f"Interrupted. 0 of 16 trials are done. {kept}"
    assert "0 of 16 trials done, 1 running" in screen.text


def test_the_cursor_is_there_while_the_block_is_drawn(search):
    """So that Ctrl-Z, or a kill, leaves a terminal that can be used."""
    with search.display:
        search.turn(2)
        assert of_terminal(search.console).cursor_shown


def test_a_view_that_fails_ends_nothing(search):
    class Broken:
        def picture(self, width, height):
            raise ZeroDivisionError

    with search.display, search.display.showing(Broken()):
        search.turn(2)
        search.console.print("goes on")
    assert "goes on" in of_terminal(search.console).text


@pytest.mark.parametrize(
    ("environment", "moves"),
    [({}, True), ({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"TTY_INTERACTIVE": "0"}, False)],
    ids=str,
)
def test_a_block_is_drawn_only_where_the_cursor_moves(environment, moves):
    assert is_live(terminal(**environment)) is moves


def test_a_log_that_takes_colours_gets_no_block():
    assert not is_live(Console(file=io.StringIO(), _environ={"TERM": "xterm", "FORCE_COLOR": "1"}))


def test_without_colours_the_block_has_none(tiny, tmp_path):
    sweep = Sweep(make_plan(tiny), tmp_path, terminal(NO_COLOR="1", COLORTERM="truecolor"))
    with sweep.display, sweep.display.showing(sweep.picture):
        sweep.schedule.ended(*(lambda spec: (spec, train(spec)))(*sweep.begin()))
        sweep.turn(2)
    codes = re.findall(r"\x1b\[([0-9;]*)m", sweep.console.file.getvalue())
    colours = {str(number) for number in (*range(30, 50), *range(90, 108))}
    assert not {part for code in codes for part in code.split(";")} & colours


# A log


def log_of_an_hour(sweep, running, epoch_s):
    """Train some trials for an hour without an end; return the seconds at which each line came, and the line."""
    specs = sweep.begin(running)

    def tell():
        epoch = int(sweep.clock.now // epoch_s)
        for spec in specs if sweep.clock.now % epoch_s == 0 else ():
            sweep.under_way.tell(Epoch(spec.trial_id, epoch, 0.5, epoch, epoch * float(epoch_s)))

    with sweep.display.showing(sweep.picture), sweep.display:
        written = sweep.turn(3600, tell)
    return [(at, line) for at, text in written for line in text.splitlines()]


@pytest.mark.parametrize("running", [1, 3, 40])
@pytest.mark.parametrize("epoch_s", [7, 61, 1800])
def test_a_log_has_at_most_a_line_a_minute_per_trial_and_is_never_silent_for_five(tiny, tmp_path, running, epoch_s):
    made = plan.make(request.Request(models=(MODEL,), epochs=1000, seeds=20), [tiny], lambda d: "d", {})
    sweep = Sweep(made, tmp_path)
    said = log_of_an_hour(sweep, running, epoch_s)
    times = [0.0, *(at for at, _ in said), 3600.0]
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) <= 300
    for minute in range(60):
        within = [line for at, line in said if minute * 60 < at <= minute * 60 + 60]
        assert len(within) <= min(running, 4)
        named = [line.split(":")[0] for line in within]
        assert len(named) == len({*named}), "a trial twice in a minute"
    assert not any("\x1b" in line for _, line in said)
    assert all(f"0 of 80 trials done, {running} running" in line for line in {at: line for at, line in said}.values())
    assert len({line.split(":")[0] for _, line in said}) >= min(running, 8), "others come next"


def test_a_line_of_a_log_says_epoch_best_and_what_is_left(tiny, tmp_path):
    sweep = Sweep(make_plan(tiny, trials=3), tmp_path)
    (spec,) = sweep.begin()
    sweep.under_way.tell(Epoch(spec.trial_id, 2, 0.4321, 2, 40.0))
    sweep.clock.now = 60.0
    assert sweep.picture.report(60.0, 0.0) == [
        "running search anna: epoch 2 of 4, best validation UAR 43.21 %, for 1:00; "
        "0 of 16 trials done, 1 running, 15 waiting, 1:00 so far, about 10 min left"
    ]


def test_a_log_of_a_sweep_that_ends_soon_has_no_line_of_the_view(tiny, tmp_path):
    sweep = Sweep(make_plan(tiny, trials=3), tmp_path)
    with sweep.display, sweep.display.showing(sweep.picture):
        for spec in sweep.begin(4):
            sweep.turn(12)
            sweep.schedule.ended(spec, train(spec))
    said = sweep.console.file.getvalue().splitlines()
    assert [line.split(" ")[0] for line in said] == ["[1/16]", "[2/16]", "[3/16]", "[4/16]"]


def test_the_lines_of_ended_trials_are_the_same_in_a_terminal_and_in_a_log(tiny, tmp_path):
    said = []
    for number, console in enumerate((terminal(), Console(file=io.StringIO(), width=80))):
        sweep = Sweep(make_plan(tiny, trials=3), tmp_path / str(number), console)
        with sweep.display, sweep.display.showing(sweep.picture):
            for spec in sweep.begin(4):
                sweep.turn(3)
                sweep.schedule.ended(spec, train(spec))
        said.append([line for line in of_terminal(console).text.splitlines() if line.startswith("[")])
    assert len(said[0]) == 4
    assert said[0] == said[1]


def test_a_log_names_a_stage_that_takes_long_and_no_other(tiny, tmp_path):
    sweep = Sweep(make_plan(tiny), tmp_path)
    with sweep.display as display:
        display.doing("reading emodb")
        sweep.turn(3)
        display.doing("extracting features of emodb: 1 of 2 parts")
        written = sweep.turn(1000)
        display.doing("")
        silent = sweep.turn(600)
    times = [(at, text.strip()) for at, text in written if text]
    assert times[0] == (7.0, "extracting features of emodb: 1 of 2 parts (0:04)")
    assert {round(b - a) for (a, _), (b, _) in zip(times, times[1:], strict=False)} == {int(SILENT_S)}
    assert not any(text for _, text in silent)


# How epochs travel


def spec(seed=0, purpose="final", epochs=9):
    return TrialSpec(
        database="d", database_digest="x", protocol="speaker", fold="a", purpose=purpose, model=MODEL,
        ablation="T+F", seed=seed, epochs=epochs, hyperparameters=(),
    )  # fmt: skip


def test_what_is_told_late_or_about_a_trial_without_a_worker_is_passed_over():
    under_way, one = UnderWay(), spec()
    under_way.tell(Epoch(one.trial_id, 3))
    assert under_way.now() == []
    under_way.begin([one])
    for epoch in (1, 4, 2):
        under_way.tell(Epoch(one.trial_id, epoch))
    assert [trial.epoch for trial in under_way.now()] == [4]
    assert under_way.end("another") is None


class Ray:
    """As much of Ray as the mailbox asks for; ``gone`` loses every answer."""

    def __init__(self, box):
        self.box, self.gone, self.calls = box, False, 0

    def wait(self, asked, timeout):
        return ([], asked) if self.gone else (asked, [])

    def get(self, asked):
        return asked[0]

    @property
    def handle(self):
        ray = self

        class Method:
            def __init__(self, name):
                self.name = name

            def remote(self, *arguments):
                ray.calls += 1
                return [getattr(ray.box, self.name)(*arguments)]

        return type("Handle", (), {"put": Method("put"), "take": Method("take")})()


@pytest.fixture
def ray(monkeypatch):
    from tfser.execution.on_ray import mailbox

    made = Ray(mailbox._Box())
    monkeypatch.setitem(__import__("sys").modules, "ray", made)
    return made


def test_the_newest_epoch_of_each_trial_travels_every_few_seconds(ray):
    clock, told = Clock(), []
    sender, mailbox = Sender(ray.handle, clock), Mailbox(ray, clock)
    mailbox.box = ray.handle
    for step in range(1000):  # a hundred seconds of epochs that take a tenth
        clock.now = step / 10
        for name in ("a", "b"):
            sender(Epoch(name, step))
        mailbox.look(told.append)
    messages = 100 / EVERY_S
    assert ray.calls <= 2 * messages + 3
    assert len(told) >= messages
    assert max(epoch.epoch for epoch in told) > 950


def test_a_mailbox_that_does_not_answer_holds_nobody_up_and_gets_no_second_message(ray):
    clock, told = Clock(), []
    ray.gone = True
    sender, mailbox = Sender(ray.handle, clock), Mailbox(ray, clock)
    mailbox.box = ray.handle
    for step in range(100):
        clock.now = float(step)
        sender(Epoch("a", step))
        mailbox.look(told.append)
    assert ray.calls == 2
    assert told == []
    Sender(None, clock)(Epoch("a", 1))


# Nothing else changes


@pytest.mark.full
def test_tables_and_entries_are_the_same_with_and_without_the_view(tiny_manifest, tmp_path, monkeypatch):
    found = []
    for name in ("log", "terminal"):
        console = terminal() if name == "terminal" else Console(file=io.StringIO(), width=80)
        printer = Printer(console)
        printer.live = Display(console, tick_s=0.01)
        monkeypatch.setattr(command, "Printer", lambda printer=printer: printer)
        out = tmp_path / name
        assert command.main(search_arguments(tiny_manifest, out, "--in-process", "--fold", "anna")) == 0
        entries = [json.loads(path.read_text()) for path in sorted((out / ".tfser" / "ledger").glob("*/*.json"))]
        for entry in entries:
            for differs in ("checksum", "seconds", "started_unix"):
                del entry[differs]
        found.append((tables_of(out / "s"), entries))
        shown = console.file.getvalue()
        assert ("\x1b[1A" in shown) == (name == "terminal")
        assert ("trials done" in shown) == (name == "terminal")
    assert found[0] == found[1]


def test_a_networks_trial_tells_every_epoch_and_its_best_validation_uar(tiny, pack, tmp_path):
    from tests.helpers.tiny import SMALL
    from tfser.execution import run_trial
    from tfser.planning import settings

    made = plan.make(request.Request(models=(MODEL,), epochs=3), [tiny], lambda d: pack.database_digest, {})
    study = dataclasses.replace(made.studies[0], epochs=3)
    asked = {**settings.published_settings(MODEL), **SMALL}
    told = []
    for one in (study.search_specs(asked)[0], next(iter(study.final_specs(asked, 3).values()))):
        task = run_trial.Task(spec=one, pack=pack.path, storage=tmp_path, tell=told.append)
        record = run_trial.run(task)
        said = told[-4:]
        assert [(epoch.epoch, epoch.trained) for epoch in said] == [(0, 0), (1, 1), (2, 2), (3, 3)]
        assert sorted(epoch.seconds for epoch in said) == [epoch.seconds for epoch in said]
        best = record.curves.validation_uar
        assert [epoch.best for epoch in said[1:]] == [max(best[:n], default=None) for n in (1, 2, 3)]
