"""A configuration: one row of a table, as a value and as JSON. Knows nothing of the trials that were run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tfser.evaluation.folds import PRINTED
from tfser.trial import ProtocolName

AskedSelection = Literal["nested", "global", "oracle"]
"""How settings and epochs can be chosen.

``oracle`` takes the best epoch on the test fold. It is for comparison with papers that do so; every table and run says
so.
"""

Selection = Literal["published", "fixed", "nested", "global", "oracle"]
"""How the settings and epochs of a row were chosen. ``published``: the paper's; ``fixed``: given by hand, or ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """What tables say of a model that is not built in, kept with its rows because its file may be gone."""

    title: str
    """Its name in tables."""
    typed: str
    """Where it came from: ``mine.py:Mine``, or the name of an entry point."""
    kind: Literal["network", "estimator"]
    parts: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]
    """Each ablation, and the parts that it has or lacks."""
    defaults: str
    """Its default settings and epochs, as a JSON object."""
    reruns: tuple[str, ...] = ()
    """Cited methods that it runs again, by the names that stand in the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One row of a table: a database and protocol, a model and ablation, its settings and how they were chosen."""

    database: str
    """The database's name; where corpora are held out, that of the test corpus and of those it is trained on."""
    database_digest: str = ""
    """Hash of its utterances, labels and audio; empty where an older store does not tell."""
    protocol: ProtocolName
    """``speaker``, ``session`` or ``corpus``."""
    model: str
    source: str = ""
    """Digest of the model's source; empty for a model that is built in."""
    own: OwnModel | None = None
    """What tables say of a model that is not built in."""
    ablation: str
    selection: Selection
    """How settings and epochs were chosen: ``published``, ``fixed``, ``nested``, ``global`` or ``oracle``."""
    settings: str = ""
    """What was asked for, as a JSON object (``tfser.planning.request.asked_settings``).

    It holds every hyperparameter and the epochs; for a search, its budget and space and the hyperparameters that it
    left alone. For a model that is not built in, it holds the digest of its source too.
    """
    emotions: tuple[str, ...]
    folds: tuple[str, ...]
    """Every fold that was asked for, done or not."""
    folds_total: int
    """Every fold that the protocol has; more than ``len(folds)`` where --fold left some out."""
    seeds: tuple[int, ...]
    complete: bool = True
    """Whether the database has its published counts."""
    same_texts: bool = False
    """Whether the same texts recur for every speaker."""
    remark: str = ""
    """Caveat to print wherever a result on this database is shown."""
    transductive: bool = False
    """Whether an utterance's scores depend on what is scored beside it, as with standardisation per speaker.

    It is kept with the row, so that a row is marked where its model is not known.
    """
    pool: str = ""
    """Name of the database that its trials read, where that is not ``database``: that of all corpora together."""

    @property
    def data(self) -> str:
        """The name of the database that its trials read."""
        return self.pool or self.database

    @property
    def protocol_name(self) -> str:
        """The protocol in words, as the papers name it."""
        return PRINTED[self.protocol]

    @property
    def label(self) -> str:
        """Words for the row where its model, database and protocol are known: its selection.

        ``tfser.planning.settings_in_words.labels`` adds what tells rows apart.
        """
        return self.selection

    @property
    def unit(self) -> str:
        """Group over which a row averages: what a fold holds out, or the speakers of the one corpus that is tested."""
        return "speaker" if self.protocol == "corpus" else self.protocol

    @property
    def key(self) -> tuple[str, str, str, str, str, str, str]:
        """Identity of the row, by which rows are also sorted; the source is among the settings."""
        return (
            self.database,
            self.database_digest,
            self.protocol,
            self.model,
            self.ablation,
            self.selection,
            self.settings,
        )

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        """Name of the row for a person: its key without the digest and the settings."""
        return (self.database, self.protocol, self.model, self.ablation, self.selection)


def to_dict(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration as JSON values, without those that are younger than stored rows where they are empty."""
    values = asdict(configuration).items()
    if (own := dict(values).get("own")) and not own["reruns"]:
        del own["reruns"]
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values
        if name not in ("source", "own", "transductive", "pool") or value
    }


def from_dict(values: Mapping[str, Any]) -> Configuration:
    """Read what ``to_dict`` returned."""
    names = Configuration.__dataclass_fields__
    fields: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in names
    }
    if own := fields.get("own"):
        parts = tuple((ablation, tuple((part, bool(has)) for part, has in each)) for ablation, each in own["parts"])
        fields["own"] = OwnModel(**{**own, "parts": parts, "reruns": tuple(own.get("reruns", ()))})
    return Configuration(**fields)
