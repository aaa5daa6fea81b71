"""Makes the features of a sweep: before training, and again if they are lost while it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from tfser.errors import RequestError, TfserError, counted, in_a_line
from tfser.features.base import Extractor
from tfser.features.pack import DAMAGED, Pack
from tfser.features.store import FeatureStore, Mapper, audio_digests
from tfser.models import of
from tfser.planning.settings import extractor, extractors
from tfser.sweep.printer import Printer
from tfser.sweep.request import Sweep
from tfser.trial import TrialSpec


class Features:
    """The features of one sweep.

    Args:
        sweep: the sweep.
        printer: says when features are made again.
    """

    def __init__(self, sweep: Sweep, printer: Printer) -> None:
        self._sweep, self._printer = sweep, printer
        self._store = FeatureStore(sweep.storage / "features")
        self.packs: dict[tuple[str, Extractor], Pack] = {}
        """(database, kind of features) to its features; empty before ``make``."""

    def make(self, mapper: Mapper) -> None:
        """Make all that are missing.

        Args:
            mapper: spreads the utterances over the workers.
        """
        for database in self._sweep.databases.values():
            digests = self._sweep.audio_digests[database.name]
            self._printer.live.doing(f"reading the features of {database.name}")
            counting = partial(self._counting, database.name, mapper)
            for wanted in self._sweep.plan.features[database.name]:
                self.packs[database.name, wanted] = self._store.ensure(database, digests, wanted, counting)

    def _counting(
        self, name: str, mapper: Mapper, function: Callable[[Any], Any], items: Sequence[Any]
    ) -> Iterator[Any]:
        """Map a function, and show how many items are done."""
        for done, result in enumerate(mapper(function, items), start=1):
            self._printer.live.doing(f"extracting features of {name}: {done} of {counted(len(items), 'part')}")
            yield result

    def of(self, spec: TrialSpec) -> Pack:
        """Return the features that a trial reads."""
        return self.packs[spec.database, extractor(of(spec), spec.settings)]

    def repair(self, spec: TrialSpec) -> None:
        """Make a trial's features again, those of its copies too, if they were deleted or damaged since they were made.

        Raises:
            TfserError: their audio has changed too, or they cannot be made.
        """
        for wanted in extractors(of(spec), spec.settings):
            self._repair(wanted, self.packs[spec.database, wanted])

    def _repair(self, wanted: Extractor, pack: Pack) -> None:
        try:
            Pack.open(pack.path, pack.database_digest)
            return
        except DAMAGED as error:
            why = in_a_line(error)
        self._printer.warn(f"The features {pack.path} are gone or damaged ({why}); they are made again")
        database, digests = self._sweep.databases[pack.database], self._sweep.audio_digests[pack.database]
        try:
            if audio_digests(database) != digests:
                raise RequestError(f"database {database.name}", ["its audio is not what it was when this sweep began"])
            # In this process: workers have trials.
            self._store.ensure(database, digests, wanted)
        except RequestError as error:
            reason = "; ".join(error.problems)
            raise TfserError(
                f"The features {pack.path} cannot be made again: {reason}. What was trained is kept."
            ) from None
