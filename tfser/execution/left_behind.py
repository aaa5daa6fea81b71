"""What the trials of a schedule left in the ledger, read at the end of a start. Trains nothing and writes nothing."""

from __future__ import annotations

import itertools

from tfser.execution.ends import Done, Key
from tfser.execution.schedule import Schedule
from tfser.record import Entry
from tfser.search.history import History


def read(schedule: Schedule) -> tuple[dict[Key, Entry], list[History], set[str]]:
    """Read the entries of everything that has ended.

    Returns:
        How the final trials ended, read from the ledger if they are done; what every study tried; and the ids of trials
        without an entry, among them pruned ones, which leave none.
    """
    done = [end.trial_id for end in schedule.ends.values() if isinstance(end, Done)]
    own = [(study, study.ended_ids) for study in schedule.studies]
    entries = schedule.entries(itertools.chain(done, *(trial_ids for _, trial_ids in own)))
    gone: set[str] = set()
    found: dict[Key, Entry] = {}
    for key, end in schedule.ends.items():
        entry = next(entries) if isinstance(end, Done) else end
        if entry is None:
            gone.add(end.trial_id)
        else:
            found[key] = entry
    histories: list[History] = []
    for study, trial_ids in own:
        left = {trial_id: next(entries) for trial_id in trial_ids}
        gone.update(trial_id for trial_id, entry in left.items() if entry is None)
        histories.append(study.history(left.get))
    return found, histories, gone
