"""A process that a model's code forks never goes on with the trial: it neither commits it nor answers for it."""

import os
import signal
import sys
import time

import pytest

from tests.helpers.estimators import known, own, task
from tfser.execution import forked, run_trial
from tfser.record import Record


def _raise():
    raise ValueError("in the copy")


@pytest.mark.parametrize("ends", [sys.exit, _raise, lambda: None], ids=["exits", "raises", "returns"])
def test_a_copy_that_comes_back_from_fit_is_ended_and_the_trial_is_that_of_its_own_process(tmp_path, ends):
    process, codes = os.getpid(), []

    def fit(X, y):  # noqa: N803
        if copy := os.fork():
            codes.append(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
        else:
            ends()

    model = own(fit=fit)
    with known(model):
        wanted = task(tmp_path, model)
        try:
            outcome = run_trial.run(wanted)
        finally:
            if os.getpid() != process:  # what must not happen; the copy would go on with the tests
                os._exit(7)
        assert codes == [1]
        assert isinstance(outcome, Record), outcome
        assert wanted.ledger.get(wanted.spec.trial_id) == outcome
        assert not list((tmp_path / "storage").glob("logs/*")), "the copy left a log"


def test_a_signal_ends_a_process_that_a_worker_forked_whatever_the_worker_does_with_it(tmp_path):
    """The parent's handler would speak to Ray in the child; here it would write a file and go on."""
    worker = os.fork()  # the hook stays for good, and shall not stay in the process of the tests
    if not worker:
        forked.end_by_sigterm()
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "handled").touch())
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(5)
        os.kill(child, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(0 if status == -signal.SIGTERM else 9)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert not (tmp_path / "handled").exists()
