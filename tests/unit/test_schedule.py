"""In which order trials are handed out, what the driver keeps of them, and how the workers' time is counted."""

import gc
import sys

import pytest

from tests.helpers.studies import failed, make_plan, train
from tfser.execution import trial_work
from tfser.execution.ends import Done
from tfser.execution.schedule import Schedule
from tfser.execution.waiting_trials import AGAIN, FIRST, Ready
from tfser.execution.worker_usage import Usage
from tfser.features.store import FeatureStore, audio_digests
from tfser.models import MODELS
from tfser.planning import plan, request
from tfser.planning import settings as planning_settings
from tfser.record import Curves, Pruned, Record, Scores
from tfser.search.study import StudyRun, open_storage
from tfser.storage.ledger import Ledger

MODEL = "time_frequency_transformer"


def fixed(tiny, **options):
    return plan.make(request.Request(**{"models": (MODEL,), "epochs": 2, **options}), [tiny], lambda d: "d", {})


def drain(schedule):
    order = []
    while (spec := schedule.next()) is not None:
        order.append(spec)
        record = train(spec)
        schedule.ledger.commit(record)
        schedule.ended(spec, record)
    return order


def test_the_longest_trials_come_first_and_equal_ones_in_the_order_they_were_planned(tiny, tmp_path):
    made = fixed(tiny, ablations=("T+TF", "T+F+TF"), seeds=2)
    work = {"T+F+TF": 1.0, "T+TF": 3.0}
    order = drain(Schedule(made, Ledger(tmp_path), None, work=lambda spec: work[spec.ablation]))
    assert [spec.ablation for spec in order] == ["T+TF"] * 8 + ["T+F+TF"] * 8
    assert [(spec.fold, spec.seed) for spec in order[:8]] == [
        (fold, seed) for fold in ("anna", "bert", "carl", "dora") for seed in (0, 1)
    ]


def test_a_measure_that_is_known_later_orders_what_waits(tiny, tmp_path):
    schedule = Schedule(fixed(tiny, seeds=3), Ledger(tmp_path), None)
    schedule.weigh(lambda spec: spec.seed)
    assert [spec.seed for spec in drain(schedule)] == [2] * 4 + [1] * 4 + [0] * 4


def test_the_final_trials_of_a_fold_come_before_searches_that_are_longer(tiny, tmp_path):
    made = make_plan(tiny, trials=3)
    schedule = Schedule(made, Ledger(tmp_path), open_storage(tmp_path / "studies.journal"))
    purposes = [(spec.purpose, spec.fold) for spec in drain(schedule)]
    for fold in ("anna", "bert", "carl", "dora"):
        last = max(i for i, one in enumerate(purposes) if one == ("search", fold))
        assert purposes[last + 1] == ("final", fold)


def test_a_study_with_more_settings_to_try_is_ahead_of_one_with_fewer(tiny):
    specs = [
        spec
        for study in fixed(tiny, seeds=1).studies
        for spec in study.final_specs(planning_settings.published_settings(MODEL), 2).values()
    ]
    ready = Ready(lambda spec: 1.0)
    ready.push(specs[0])
    ready.push(specs[1], behind=1.0)
    ready.push(specs[2], behind=5.0)
    ready.push(specs[3], FIRST)
    assert [ready.pop() for _ in range(5)] == [specs[3], specs[2], specs[1], specs[0], None]


def test_what_was_handed_out_and_lost_is_handed_out_before_anything_else(tiny, tmp_path):
    schedule = Schedule(fixed(tiny, seeds=2), Ledger(tmp_path), None)
    first, second = schedule.next(), schedule.next()
    schedule.put_back(second)
    assert schedule.next() is second
    schedule.put_back(first)
    schedule.put_back(second)
    assert {schedule.next(), schedule.next()} == {first, second}
    assert AGAIN < FIRST


def test_trials_with_something_in_common_are_handed_out_together_and_every_trial_once(tiny, tmp_path):
    schedule = Schedule(
        fixed(tiny, ablations=("T+TF", "T+F+TF"), seeds=5), Ledger(tmp_path), None, work=lambda spec: spec.seed
    )

    def key(spec):
        return spec.ablation

    packs = []
    while pack := schedule.next_together(key, 3):
        assert len({spec.ablation for spec in pack}) == 1
        assert schedule.running == len(pack)
        packs.append(pack)
        for spec in pack:
            schedule.ended(spec, train(spec))
    assert sorted(map(len, packs)) == [2, 2] + [3] * 12
    assert len({spec.trial_id for pack in packs for spec in pack}) == 40
    assert max(spec.seed for spec in packs[0]) == 4
    assert schedule.finished


def test_handing_out_one_at_a_time_together_is_the_plain_order(tiny, tmp_path):
    def alone(schedule):
        return schedule.next()

    def together(schedule):
        return next(iter(schedule.next_together(lambda spec: spec.fold, 1)), None)

    orders = []
    for number, take in enumerate((alone, together)):
        folder = tmp_path / str(number)
        schedule = Schedule(make_plan(tiny, trials=3), Ledger(folder), open_storage(folder / "studies.journal"))
        orders.append([])
        while (spec := take(schedule)) is not None:
            orders[-1].append(spec.trial_id)
            schedule.ended(spec, train(spec))
    assert orders[0] == orders[1]


def test_a_trial_that_comes_up_later_joins_others_of_its_key(tiny):
    specs = [
        spec
        for study in fixed(tiny, seeds=3).studies
        for spec in study.final_specs(planning_settings.published_settings(MODEL), 2).values()
    ]
    ready = Ready(lambda spec: 1.0)

    def key(spec):
        return spec.fold

    for spec in specs[:4]:
        ready.push(spec)
    assert ready.pop_together(key, 2) == [specs[0], specs[1]]
    for spec in specs[4:]:
        ready.push(spec)
    assert ready.pop_together(key, 2) == [specs[2]]
    assert ready.pop_together(key, 9) == [s for s in specs if s.fold == specs[3].fold]
    assert len(ready) == 6
    ready.weigh(lambda spec: spec.seed)
    assert [ready.pop().seed for _ in range(6)] == [2, 2, 1, 1, 0, 0]


def test_work_grows_with_epochs_segments_and_what_the_model_costs(tiny, tmp_path):
    wanted = planning_settings.extractor(MODELS[MODEL], planning_settings.published_settings(MODEL))
    pack = FeatureStore(tmp_path).ensure(tiny, audio_digests(tiny), wanted)
    work = trial_work.Work({("tiny", wanted): pack})

    def of(**options):
        settings = {**planning_settings.published_settings(MODEL), **options.pop("settings", {})}
        (study, *_) = fixed(tiny, **options).studies
        return work(next(iter(study.final_specs(settings, study.epochs).values())))

    assert of(epochs=4) == pytest.approx(2 * of(epochs=2))
    assert of(ablations=("T+TF",)) < of()
    assert of(settings={"segment_frames": 16, "segment_hop": 4}) > of(settings={"segment_frames": 16})
    (search, *_) = make_plan(tiny).studies
    (trial,) = search.search_specs(search.base)
    assert work(trial) / trial.epochs < of(epochs=1), "a search trial leaves out the validation speaker, too"


def test_the_largest_trial_of_a_search_has_the_largest_sizes_that_it_can_sample_and_is_legal(tiny):
    made = make_plan(tiny)
    (spec,) = trial_work.largest(made.studies)
    assert spec.settings["batch_size"] == 32
    assert spec.settings["channels"] == 8
    assert made.studies[0].final_specs(spec.settings, spec.epochs)


def everything_below(thing):
    """Every object that is reachable, without modules, classes and functions' globals."""
    seen, waiting = {}, [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, type(sys), type(gc.collect))):
            continue
        seen[id(one)] = one
        if not hasattr(one, "__globals__"):
            waiting += gc.get_referents(one)
        else:
            waiting += [cell.cell_contents for cell in one.__closure__ or ()]
    return seen.values()


def test_neither_scores_nor_curves_of_trials_that_ended_stay_in_memory(tiny, tmp_path):
    made = make_plan(tiny, trials=2)
    schedule = Schedule(made, Ledger(tmp_path), open_storage(tmp_path / "studies.journal"))
    while (spec := schedule.next()) is not None:
        entry = train(spec)
        schedule.ledger.commit(entry)
        schedule.ended(spec, entry)
    assert len(schedule.ends) == 4
    assert not any(isinstance(one, (Record, Scores, Curves)) for one in everything_below(schedule))
    assert schedule.ends == {key: Done(spec.trial_id, 1.0) for key, spec in schedule.finals.items()}


def test_what_a_study_keeps_of_a_curve_gives_the_bars_that_the_ledger_gives(tiny, tmp_path):
    made = make_plan(tiny, trials=9, folds=("anna",))
    storage = open_storage(tmp_path / "studies.journal")
    schedule = Schedule(made, Ledger(tmp_path / "ledger"), storage)
    while (spec := schedule.next()) is not None:
        schedule.ledger.commit(train(spec))
        schedule.ended(spec, train(spec))
    (run,) = schedule.studies
    anew = StudyRun(run.study, storage)
    asked = []

    def entry(trial_id):
        asked.append(trial_id)
        return schedule.ledger.get(trial_id)

    assert run.bars(lambda trial_id: pytest.fail("the ledger was read again")) == anew.bars(entry)
    assert any(run.bars(entry)[0])
    assert len(asked) == 9
    anew.bars(entry)
    assert len(asked) == 9, "an entry is read once"


def test_a_study_is_looked_at_only_when_a_trial_of_its_own_has_ended(tiny, tmp_path, monkeypatch):
    schedule = Schedule(make_plan(tiny, trials=3), Ledger(tmp_path), open_storage(tmp_path / "studies.journal"))
    looked = []
    monkeypatch.setattr(StudyRun, "can_ask", lambda self, at_once: bool(looked.append(self.study.folds)))
    spec = schedule.next()
    schedule.ended(spec, train(spec))
    assert looked == [(spec.fold,)]
    schedule.settings_at_once = 2
    spec = schedule.next()
    schedule.ended(spec, failed(spec, "its worker was lost", "lost"))
    assert len(set(looked)) == 4, "with more settings at once every study may have something to ask for"


def test_a_line_that_a_killed_driver_left_half_written_is_cut_off(tiny, tmp_path):
    made = make_plan(tiny, trials=2, folds=("anna",))
    path = tmp_path / "studies.journal"
    schedule = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(path))
    spec = schedule.next()
    schedule.ledger.commit(train(spec))
    schedule.ended(spec, train(spec))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    again = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(path))
    assert path.read_bytes().startswith(whole)
    assert [s.purpose for s in drain(again)] == ["search", "final"]
    assert open_storage(path).get_all_studies()


def test_busy_and_available_worker_seconds_are_added_up_over_a_cluster_that_grows():
    usage = Usage()
    assert usage.share is None
    assert str(usage) == ""
    usage.workers(100.0, 1)
    usage.worked(110.0, 160.0)  # 50 s on the first worker
    usage.workers(150.0, 1)  # nothing changed
    usage.workers(160.0, 2)
    usage.worked(162.0, 200.0)
    usage.worked(165.0, 210.0)
    usage.workers(300.0, 9)  # after the last trial
    assert usage.busy_s == 50 + 38 + 45
    assert usage.available_s == 1 * 50 + 2 * 50
    assert usage.share == pytest.approx(133 / 150)
    assert str(usage) == "Workers busy 88.7 % of the time (133 of 150 worker seconds, 1 to 9 workers)."
    usage.clear()
    assert usage.share is None


def test_trials_that_fill_the_time_are_all_of_it():
    usage = Usage()
    usage.workers(0.0, 2)
    for begin in range(10):
        for _ in range(2):
            usage.worked(begin, begin + 1)
    assert usage.share == 1.0


def test_a_study_goes_on_only_when_damaged_entries_that_it_was_told_of_are_there_again(tiny, tmp_path):
    made = make_plan(tiny, trials=8, folds=("anna",))

    def trained(folder, most):
        """Train that many trials with the bars that they are given; the schedule, and the trials with their bars."""
        schedule, asked = Schedule(made, Ledger(folder / "ledger"), open_storage(folder / "studies.journal")), []
        while len(asked) < most and (spec := schedule.next()) is not None:
            asked.append((spec.trial_id, schedule.bar(spec)))
            schedule.ledger.commit(train(spec))
            schedule.ended(spec, train(spec))
        return schedule, asked

    _, whole = trained(tmp_path / "a", 99)
    assert any(any(bar) for _, bar in whole)
    schedule, begun = trained(tmp_path / "b", 5)
    damaged = [trial_id for trial_id, _ in begun[1:4]]
    for trial_id in damaged:
        schedule.ledger.path(trial_id).write_text("{")
    schedule, rest = trained(tmp_path / "b", 99)
    assert rest[:3] == [(trial_id, ()) for trial_id in damaged], "to the end, as the study was told"
    assert begun + rest[3:] == whole
    assert schedule.finished
    assert not schedule.failures


def test_what_failed_and_whose_entry_is_gone_is_tried_again_and_is_one_failure(tiny, tmp_path):
    made = make_plan(tiny, trials=2, folds=("anna",))

    def start(failing=()):
        schedule = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"))
        ids = []
        while (spec := schedule.next()) is not None:
            ids.append(spec.trial_id)
            entry = train(spec)
            if not ids[1:] and spec.purpose == "search":
                entry = failed(spec)
            schedule.ledger.commit(entry)
            schedule.ended(spec, entry)
        return schedule, ids

    schedule, ids = start()
    schedule.ask_again(set(ids[:1]))
    assert schedule.finished, "it is there"
    schedule.ledger.path(ids[0]).unlink()
    schedule.ask_again({ids[0]})
    assert schedule.waiting == 1
    assert not schedule.failures
    again, anew = start()
    assert anew == ids[:1]
    assert [ended.spec.trial_id for ended in again.failures] == ids[:1]


def test_a_pruned_trial_of_an_earlier_start_is_not_missed(tiny, tmp_path):
    made = make_plan(tiny, trials=2, folds=("anna",))
    schedule = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"))
    pruned = schedule.next()
    schedule.ended(pruned, Pruned(trial_id=pruned.trial_id, epochs=1))
    again = Schedule(made, Ledger(tmp_path / "ledger"), open_storage(tmp_path / "studies.journal"))
    assert pruned not in drain(again)
    again.ask_again({pruned.trial_id})
    assert again.finished
