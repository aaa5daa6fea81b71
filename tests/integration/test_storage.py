"""Every place may lie behind a URI: what is kept and what is printed is the same as on a disk."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.sweeps import SPACE, tables_of
from tests.helpers.tasks import SPEC
from tests.helpers.tiny import SET_SMALL, write_tiny
from tfser.benchmark import made_up
from tfser.databases import load
from tfser.errors import RequestError
from tfser.execution import run_trial
from tfser.features.log_mel import FrontEnd
from tfser.features.store import FeatureStore, audio_digests
from tfser.search import journal
from tfser.storage import local_copies, places, sweep_lock
from tfser.storage.checkpoints import Checkpoint
from tfser.storage.ledger import Ledger
from tfser.sweep import command as sweep_command

ROOT = Path(__file__).parents[2]
RECORD = made_up.record(SPEC, ("calm", "Zoë"), 4)
FRONT_END = FrontEnd(n_mels=16)


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path):
    """A storage folder of each kind."""
    return (
        tmp_path / "storage"
        if request.param == "disk"
        else places.place(request.getfixturevalue("bucket") + "/storage")
    )


def upload(folder, uri):
    target = places.place(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            places.commit(
                target / path.relative_to(folder).as_posix(), lambda file, path=path: file.write(path.read_bytes())
            )


def test_the_ledger_keeps_entries_and_weights_and_sets_damaged_ones_aside(root):
    ledger = Ledger(root)
    assert ledger.ids() == set()
    assert ledger.get(SPEC.trial_id) is None
    ledger.commit(RECORD, {"w": torch.arange(3.0)})
    assert Ledger(root).get(SPEC.trial_id) == RECORD
    assert Ledger(root).ids() == {SPEC.trial_id}
    assert torch.equal(ledger.weights(SPEC.trial_id)["w"], torch.arange(3.0))
    places.commit_text(ledger.path(SPEC.trial_id), places.read_text(ledger.path(SPEC.trial_id)).replace("done", "gone"))
    assert ledger.get(SPEC.trial_id) is None
    assert [str(path) for path in ledger.damaged] == [str(ledger.path(SPEC.trial_id).with_suffix(".damaged"))]
    assert ledger.ids() == set()


def test_a_commit_that_fails_leaves_what_was_there(root):
    places.make_folder(root)
    places.commit_text(root / "x", "before")

    def torn(file):
        file.write(b"half of")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        places.commit(root / "x", torn)
    assert places.read_text(root / "x") == "before"
    assert [path.name for path in places.listed(root, "*")] == ["x"]


def test_of_many_that_make_the_same_file_one_succeeds(root):
    places.make_folder(root)
    made = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(places.create_text(root / "lease", str(n)))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]


def replaced_after_a_look(monkeypatch, path, contents):
    """Let another process replace ``path`` right after each of the next looks at its version."""
    look, left = path.fs.info, list(contents)

    def info(*arguments, **named):
        seen = look(*arguments, **named)
        if left:
            content = left.pop(0)
            places.commit(path, lambda file: file.write(content))
        return seen

    monkeypatch.setattr(path.fs, "info", info)


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(bucket, monkeypatch):
    path = places.place(f"{bucket}/s.lease")
    places.commit_text(path, "first")
    replaced_after_a_look(monkeypatch, path, [b"the second", b"the third one"])
    assert places.read_text(path) in ("first", "the second", "the third one")
    large = places.place(f"{bucket}/large")
    places.commit(large, lambda file: file.write(b"a" * 100))
    monkeypatch.setattr(places, "_IN_PARTS", 10)
    replaced_after_a_look(monkeypatch, large, [b"b" * 100, b"c" * 90])
    assert places.read_bytes(large) == b"c" * 90


def test_a_copy_of_an_object_that_is_replaced_meanwhile_is_of_its_last_version(bucket, monkeypatch):
    one, folder = places.place(f"{bucket}/one/features.npy"), places.place(f"{bucket}/corpus")
    places.commit_text(one, "first")
    replaced_after_a_look(monkeypatch, one, [b"the second"])
    assert local_copies.here(one).read_text() == "the second"
    places.commit_text(folder / "a.csv", "first")
    fetch, left = local_copies._fetch, ["the second"]

    def late(source, wanted):
        fetch(source, wanted)
        if left:
            places.commit_text(folder / "a.csv", left.pop())

    monkeypatch.setattr(local_copies, "_fetch", late)
    assert (local_copies.mirror(folder) / "a.csv").read_text() == "the second"


def test_features_and_checkpoints_are_the_same_bits_wherever_they_are_kept(root, tiny, tmp_path):
    digests = audio_digests(tiny)
    local = FeatureStore(tmp_path / "local").ensure(tiny, digests, FRONT_END)
    pack = FeatureStore(root).ensure(tiny, digests, FRONT_END)
    assert np.array_equal(pack.frames(), local.frames())
    again = FeatureStore(root).ensure(tiny, digests, FRONT_END, mapper=lambda *a: pytest.fail("extracted again"))
    assert np.array_equal(again.frames(), local.frames())
    checkpoint = Checkpoint(root, SPEC.trial_id, {"torch": "x"})
    assert checkpoint.load() is None
    checkpoint.save({"w": torch.arange(3.0), "epoch": 3})
    assert torch.equal(Checkpoint(root, SPEC.trial_id, {"torch": "x"}).load()["w"], torch.arange(3.0))
    checkpoint.remove()
    assert checkpoint.load() is None


def test_frames_are_extracted_again_where_a_store_lost_them(root, tiny):
    digests = audio_digests(tiny)
    pack = FeatureStore(root).ensure(tiny, digests, FRONT_END)
    before = pack.frames().copy()
    places.remove(pack.path.with_suffix(".npy"))
    assert np.array_equal(FeatureStore(root).ensure(tiny, digests, FRONT_END).frames(), before)


def test_the_workers_of_a_node_fetch_features_once_and_map_the_same_file(bucket, tiny, monkeypatch):
    pack = FeatureStore(places.place(f"{bucket}/storage")).ensure(tiny, audio_digests(tiny), FRONT_END)
    fetch, fetched, maps = local_copies._fetch, [], []
    monkeypatch.setattr(
        local_copies, "_fetch", lambda source, wanted: (fetched.extend(wanted), time.sleep(0.2), fetch(source, wanted))
    )
    workers = [threading.Thread(target=lambda: maps.append(pack.frames())) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(fetched) == 1
    assert pack.path.name in fetched[0].name, "the name holds the database's digest: other data are another file"
    assert {frames.filename for frames in maps} == set(fetched)
    assert len(maps) == 6


def test_a_journal_behind_a_uri_is_stored_in_parts_and_read_back_whole(bucket, monkeypatch):
    monkeypatch.setattr(journal, "PART_BYTES", 100)
    path = places.place(f"{bucket}/search/s.journal")
    written, stored = journal.StoredJournal(path), []
    for number in range(12):
        written.append_logs([{"op_code": 0, "number": number}])
        stored.append(sorted(p.name for p in places.listed(path.parent, "*")))
    assert stored[0] == ["s.journal"]
    assert stored[-1][:2] == ["s.journal", "s.journal.0001"]
    assert all(places.size(path.with_name(name)) <= 100 + 60 for name in stored[-1])
    again = journal.StoredJournal(path)
    assert [line["number"] for line in again.read_logs(0)] == list(range(12))
    again.append_logs([{"op_code": 0, "number": 12}])
    assert [line["number"] for line in again.read_logs(12)] == [12]
    assert [line["number"] for line in journal.StoredJournal(path).read_logs(0)] == list(range(13))


def test_a_corpus_behind_a_uri_is_read_like_one_on_disk_and_follows_its_changes(bucket, tmp_path):
    manifest = write_tiny(tmp_path / "corpus")
    upload(tmp_path / "corpus", bucket)
    local, remote = load(str(manifest), None), load(f"{bucket}/tiny.csv", None)
    assert audio_digests(remote) == audio_digests(local)
    other = remote.utterances[0].path
    other.unlink()  # as on another machine, which has no copy yet
    assert remote.audio_digest(remote.utterances[0]) == local.audio_digest(local.utterances[0])
    rows = manifest.read_text().splitlines()
    places.commit_text(places.place(f"{bucket}/tiny.csv"), "\n".join(rows[:-1]) + "\n")
    gone = (manifest.parent / rows[-1].split(",")[0]).relative_to(manifest.parent).as_posix()
    places.remove(places.place(f"{bucket}/{gone}"))
    assert len(load(f"{bucket}/tiny.csv", None).utterances) == len(local.utterances) - 1
    assert not (remote.root / gone).exists()


def test_of_a_folder_of_corpora_only_the_one_asked_for_is_copied(bucket, tmp_path, monkeypatch):
    for name in ("EmoDB/wav/03a01Fa.wav", "other/large.wav"):
        places.commit(places.place(f"{bucket}/{name}"), lambda file: file.write(b"RIFF"))
    with pytest.raises(RequestError, match="expected 535 utterances, found 1"):
        load("emodb", places.place(bucket))
    assert [path.name for path in (tmp_path / "cache" / "tfser-mirror").rglob("*.wav")] == ["03a01Fa.wav"]


def words(manifest, out, *more):
    model = ["--model", "time_frequency_transformer", "--ablation", "T+F+TF", "T+F", "--name", "s"]
    return [
        manifest,
        "--out",
        out,
        *model,
        "--trials",
        "2",
        "--space",
        str(SPACE),
        "--epochs",
        "2",
        "--set",
        *SET_SMALL,
        *more,
    ]


@pytest.fixture(scope="module")
def on_disk(tiny_manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("disk")
    assert sweep_command.main(words(str(tiny_manifest), str(out), "--in-process")) == 0
    return tables_of(out / "s")


def tables_behind(uri):
    """Return the same as ``tables_of``."""
    of_a_run = ("sweep.json", "report.html")
    return {
        path.name: places.read_bytes(path)
        for path in places.listed(places.place(uri), "*")
        if path.name not in of_a_run
    }


@pytest.mark.full
def test_a_search_that_lies_wholly_behind_uris_gives_the_tables_of_one_on_disk(
    on_disk, bucket, tiny_manifest, tmp_path, capsys, monkeypatch
):
    upload(tiny_manifest.parent, f"{bucket}/corpus")
    places.commit(places.place(f"{bucket}/space.yaml"), lambda file: file.write(SPACE.read_bytes()))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    call = words(f"{bucket}/corpus/tiny.csv", f"{bucket}/out", "--in-process", "--tracking-uri", uri)
    call[call.index(str(SPACE))] = f"{bucket}/space.yaml"
    real, trained = run_trial.run, []

    def killed(task):
        trained.append(task.spec.trial_id)
        if len(trained) == 5:
            raise KeyboardInterrupt
        return real(task)

    with monkeypatch.context() as patch:
        patch.setattr(run_trial, "run", killed)
        assert sweep_command.main(call) == 130
    assert sweep_command.main(call) == 0
    assert tables_behind(f"{bucket}/out/s") == on_disk
    capsys.readouterr()
    assert sweep_command.main(call) == 0
    assert "Trained 0 trials" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_ray_workers_read_and_write_behind_uris(on_disk, bucket, tiny_manifest, tmp_path):
    upload(tiny_manifest.parent, f"{bucket}/corpus")
    call = words(
        f"{bucket}/corpus/tiny.csv",
        f"{bucket}/out",
        "--deterministic",
        "--tracking-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(ROOT)}
    cpus = ["--trial-cpus", str(len(os.sched_getaffinity(0)))]
    command = [sys.executable, "-m", "tfser.sweep", *call, *cpus]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert tables_behind(f"{bucket}/out/s") == on_disk


def test_a_store_that_is_not_there_is_a_clear_refusal(bucket, tiny_manifest, tmp_path, capsys):
    call = words(
        str(tiny_manifest),
        "s3://no-such-bucket/out",
        "--in-process",
        "--tracking-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
    )
    assert sweep_command.main(call) == 2
    error = capsys.readouterr().err
    assert "s3://no-such-bucket/out" in error
    assert "name another" in error
    assert "Traceback" not in error


def test_a_uri_of_an_unknown_kind_and_a_database_that_cannot_lie_behind_one_are_refused(bucket, tiny_manifest, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep_command.main(words(str(tiny_manifest), "nowhere://x/out", "--in-process"))
    assert ended.value.code == 2
    assert "nowhere://x/out" in capsys.readouterr().err
    assert sweep_command.main(words(str(tiny_manifest), f"{bucket}/out", "--in-process")) == 2
    assert "an SQLite database cannot lie in" in capsys.readouterr().err


def test_a_lease_behind_a_uri_keeps_a_second_driver_out_and_ends_with_its_holder(bucket, monkeypatch):
    monkeypatch.setattr(sweep_lock, "RENEW_S", 0.1)
    monkeypatch.setattr(sweep_lock, "LIFETIME_S", 60.0)  # a busy machine may take seconds for a renewal
    storage = places.place(bucket)
    told = []
    with sweep_lock.lease(storage, "s", told.append):
        with (
            pytest.raises(RequestError, match=r"it is being run by process \d+ on "),
            sweep_lock.lease(storage, "s", told.append),
        ):
            pass
        with sweep_lock.lease(storage, "another", told.append):
            pass
    assert places.listed(storage / "sweeps", "*") == []
    assert "waiting up to 60 s" in told[0]
    monkeypatch.setattr(sweep_lock, "LIFETIME_S", 3.0)
    places.commit_text(
        storage / "sweeps" / "s.lease", json.dumps({"holder": "process 1 on a dead machine", "token": "x"})
    )
    begin = time.monotonic()
    with sweep_lock.lease(storage, "s", told.append):
        assert time.monotonic() - begin >= 3.0, "it was taken over before it could have been renewed"
        assert "a dead machine" not in places.read_text(storage / "sweeps" / "s.lease")


def test_a_driver_whose_lease_was_taken_over_stops(bucket, monkeypatch):
    monkeypatch.setattr(sweep_lock, "RENEW_S", 0.1)
    storage = places.place(bucket)

    def drive():
        with sweep_lock.lease(storage, "s", print):
            places.commit_text(storage / "sweeps" / "s.lease", json.dumps({"holder": "another", "token": "x"}))
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert json.loads(places.read_text(storage / "sweeps" / "s.lease"))["token"] == "x", (
        "another driver's lease was removed"
    )
