"""What a storage remembers: of models that are not built in, and of the trials that a plan has finished.

So what is finished needs neither a model's file nor its package.

A file of ``models/`` holds what a model of one source declared. It is data alone: no code is kept, and none is run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence

from tfser.execution import rows
from tfser.models import Model, find
from tfser.models.sources import Source, gone, whereabouts
from tfser.planning import declarations
from tfser.planning.plan import Plan
from tfser.storage.ledger import Ledger
from tfser.storage.places import Place, commit_text, listed, make_folder, read_text


def keep(storage: Place, sources: Iterable[Source]) -> None:
    """Remember models whose source is here, each with the words by which it was named."""
    for source in sources:
        model = find(source.name, source.digest)
        if model is None or not (source.files or source.package):
            continue
        values = {
            "words": [source.word, whereabouts(source.word)] if source.files else [source.typed],
            "typed": source.typed,
            "attribute": source.attribute,
            "digest": source.digest,
            "written_unix": time.time(),
            "declaration": declarations.to_dict(model),
        }
        make_folder(storage / "models")
        text = json.dumps(values, sort_keys=True, ensure_ascii=True)
        commit_text(storage / "models" / f"{source.name}-{source.digest}.json", text + "\n")


def recalled(storage: Place, typed: Iterable[str]) -> Mapping[str, tuple[Source, Model]]:
    """Return what is remembered of models whose source is not here: the last one of each, by what was typed.

    Args:
        storage: where it is kept.
        typed: words of --model.
    """
    lost = {word: {word, whereabouts(word)} for word in typed if gone(word)}
    kept: Sequence[Place] = []
    newest: dict[str, tuple[float, Source, Model]] = {}
    with contextlib.suppress(OSError):  # what is wrong with the storage is said elsewhere
        kept = listed(storage / "models", "*.json") if lost else []
    for path in kept:
        try:
            values = json.loads(read_text(path))
            model, words = declarations.from_dict(values["declaration"]), {*values["words"]}
            typed, attribute, digest = (str(values[name]) for name in ("typed", "attribute", "digest"))
            source = Source(typed=typed, attribute=attribute, digest=digest, name=model.name)
            read = float(values["written_unix"]), source, model
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # of another version; a start with the file writes it again
        for word, names in lost.items():
            if names & words and (word not in newest or newest[word][0] < read[0]):
                newest[word] = read
    return {word: (source, model) for word, (_, source, model) in newest.items()}


def unfinished(plan: Plan, storage: Place, name: str) -> int:
    """Return how many final trials of a plan have no entry in the ledger.

    Args:
        plan: the plan.
        storage: holds the ledger, and the rows that tell which trials a search ended with.
        name: the sweep's.
    """
    held = Ledger(storage / "ledger").ids()
    kept = {row.configuration.key: {**row.finals, "": {"0": row.deploy}} for row in rows.read(storage, name)}
    left = 0
    for study in plan.studies:
        specs = study.final_specs(study.base, study.epochs)
        finals = kept.get(study.configuration.key, {})
        for (fold, seed), spec in specs.items():
            # The setting of a search is known only to the row that it ended in.
            left += (finals.get(fold, {}).get(str(seed)) if study.space else spec.trial_id) not in held
    return left
