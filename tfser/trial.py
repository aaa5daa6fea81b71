"""A trial as a value: what is trained, on which speakers, with which settings, and its id.

Hosts, paths and schedulers have no place in it, because they must not change a number. Knows nothing of how a trial is
run, stored or shown.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tfser.text.typed import clipped, number, whole

NUMERICS_VERSION = 2
"""Raised whenever a change of the code changes results, so that an old trial is never taken for a new one."""

BFLOAT16_NUMERICS_VERSION = 3
"""The same of trials whose ``precision`` is bfloat16."""

GROUPED_SAMPLING_NUMERICS_VERSION = 4
"""The same of trials that draw groups of segments in balance. The next raise takes a number that none has had."""


def numerics_of(settings: Mapping[str, Any]) -> int:
    """Return the numerics version that this code computes of trials with some settings."""
    if settings.get("sampling", "shuffled") != "shuffled" and settings.get("segments_together", 1) != 1:
        return GROUPED_SAMPLING_NUMERICS_VERSION
    return BFLOAT16_NUMERICS_VERSION if settings.get("precision") == "bfloat16" else NUMERICS_VERSION


NUMERICS_SETTINGS = ("precision", "sampling", "segments_together")
"""The settings that ``numerics_of`` reads."""


SHORTEST_PREFIX = 6
"""Fewest digits of a trial id that name it, where no other begins with them."""


def is_beginning(word: str) -> bool:
    """Tell whether a word can be a trial id, or enough of its first digits to name it."""
    return re.fullmatch(f"[0-9a-f]{{{SHORTEST_PREFIX},16}}", word.lower()) is not None


ProtocolName = Literal["speaker", "session", "corpus"]
"""The group that a fold holds out. ``corpus``: one of several corpora, whose labels were mapped to common emotions."""

Purpose = Literal["search", "final", "oracle", "deploy"]
"""What a trial is for.

``search``: trained without the validation speakers and scored on them after every epoch. ``final``: trained on all
training speakers and scored once on the test fold. ``oracle``: as ``final``, but scored on the test fold after every
epoch and recorded at its best one; only rows that say so contain such a trial. ``deploy``: trained on every speaker, to
score other recordings; it has no test fold and no score, and no row contains it.
"""

Leak = Literal["random_split", "standardisation"]
"""What a trial of ``tfser.leaks`` is shown of its test utterances, on purpose.

``random_split``: folds are shares of the shuffled utterances, so that test speakers are trained on too.
``standardisation``: the statistics of the mel bands come from every utterance, those of the test fold included. Only
the table about leaks contains such a trial.
"""

PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
LEAKS: tuple[Leak, ...] = get_args(Leak)

Value = int | float | str | bool
"""Types of a hyperparameter's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One setting of a model or its training: its published default and its legal values."""

    default: Value
    help: str
    """What it is, with its unit."""
    low: float | None = None
    """Smallest legal value (numbers only)."""
    high: float | None = None
    """Largest legal value (numbers only)."""
    choices: tuple[str, ...] = ()
    """Every legal word (strings only)."""
    implied: Value | None = None
    """What the code did before this setting existed; ``None`` for a setting that was always there.

    At that value a trial's spec leaves the setting out, so that a trial keeps the id that it had before.
    """

    def problem(self, value: object) -> str | None:
        """Return why ``value`` is refused; ``None`` where it is legal."""
        kind = type(self.default)
        if kind is bool:
            return None if isinstance(value, bool) else f"{clipped(value)} is not true or false"
        if kind is str:
            return None if value in self.choices else f"{clipped(value)} is not one of {', '.join(self.choices)}"
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or (kind is int and not isinstance(value, int))
        ):
            return f"{clipped(value)} is not {'a whole number' if kind is int else 'a number'}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{clipped(value)} is not a finite number"
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            low, high = (
                ("-inf" if self.low is None else f"{self.low:g}"),
                ("inf" if self.high is None else f"{self.high:g}"),
            )
            return f"{clipped(value)} is not within {low} to {high}"
        return None

    def parse(self, text: str) -> Value:
        """Read a value that a person typed.

        Raises:
            ValueError: it is not legal; the text says why.
        """
        value: object = text
        if isinstance(self.default, bool):
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif not isinstance(self.default, str):
            value = whole(text) if isinstance(self.default, int) else number(text)
        problem = self.problem(value)
        if problem:
            raise ValueError(problem)
        return value  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """Everything that can change a trial's numbers, and nothing else.

    Raises:
        ValueError: it is no possible trial; the text says everything that is wrong with it.
    """

    database: str
    """The database's name."""
    database_digest: str
    """Hash of its utterances, labels and audio."""
    protocol: ProtocolName
    fold: str
    """Name of the held-out speaker, session or corpus; with ``random_split``, a share of the utterances (``part01``).

    Empty where nothing is held out for a test: of a ``deploy`` trial, and of the search trials that choose for it.
    """
    purpose: Purpose
    validation: tuple[str, ...] = ()
    """The validation speakers, sessions or corpora of a search trial: not trained on, scored after every epoch."""
    model: str
    """The model's name."""
    source: str = ""
    """Digest of the model's source (``tfser.models.sources``); empty for a model that is built in."""
    ablation: str
    """One of the model's ablations."""
    seed: int
    epochs: int
    hyperparameters: tuple[tuple[str, Value], ...]
    """Every setting with its value, sorted by name. It includes the defaults, because they may change.

    Only a setting at its ``implied`` value is left out; ``tfser.planning.settings.complete`` adds it.
    """
    numerics: int = -1
    """The version of the code's numbers; by default this code's (``numerics_of``)."""
    leaks: tuple[Leak, ...] = ()
    """The trial's leaks, sorted; an honest trial has none."""
    _id: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.numerics == -1:
            object.__setattr__(self, "numerics", numerics_of(dict(self.hyperparameters)))
        searches = self.purpose == "search"
        names = [name for name, _ in self.hyperparameters]
        infinite = [n for n, v in self.hyperparameters if isinstance(v, float) and not math.isfinite(v)]
        wrong = {
            f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}": self.protocol not in PROTOCOLS,
            f"purpose {self.purpose!r} is not one of {', '.join(PURPOSES)}": self.purpose not in PURPOSES,
            f"leaks {self.leaks!r} are not of {', '.join(LEAKS)}, sorted": [*self.leaks]
            != sorted({*self.leaks} & {*LEAKS}),
            "database, fold, model and ablation need a name": not (
                self.database and self.model and self.ablation and (self.fold or self.purpose in ("search", "deploy"))
            ),
            f"purpose deploy holds out fold {self.fold}": self.purpose == "deploy" and bool(self.fold),
            "leaks need a test fold": bool(self.leaks) and not self.fold,
            f"{self.epochs!r} epochs are not a whole number from 1": not _whole(self.epochs, 1),
            f"seed {self.seed!r} is not a whole number from 0": not _whole(self.seed, 0),
            f"purpose {self.purpose} with validation speakers {self.validation!r}": searches != bool(self.validation),
            f"fold {self.fold} would be validated on": self.fold in self.validation,
            f"hyperparameters {names} are not sorted, each once": names != sorted({*names}),
            f"{', '.join(infinite)} not finite": bool(infinite),
        }
        if any(wrong.values()):
            raise ValueError(f"no trial: {'; '.join(problem for problem, holds in wrong.items() if holds)}")

    @property
    def settings(self) -> dict[str, Any]:
        """The hyperparameters by name."""
        return dict(self.hyperparameters)

    @property
    def held_out(self) -> str:
        """The fold, for a person; ``no speaker`` where nothing is held out for a test."""
        return self.fold or f"no {self.protocol}"

    @property
    def trial_id(self) -> str:
        """16 hexadecimal digits: the same for equal specs on any machine and in any process."""
        if not self._id:  # kept: it is asked for very often
            object.__setattr__(self, "_id", hashlib.sha256(self.to_json().encode()).hexdigest()[:16])
        return self._id

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON values; ``source`` and ``leaks`` are younger than ids; empty ones are left out."""
        return {
            "database": self.database,
            "database_digest": self.database_digest,
            "protocol": self.protocol,
            "fold": self.fold,
            "purpose": self.purpose,
            "validation": list(self.validation),
            "model": self.model,
            **({"source": self.source} if self.source else {}),
            "ablation": self.ablation,
            "seed": self.seed,
            "epochs": self.epochs,
            "hyperparameters": self.settings,
            "numerics": self.numerics,
            **({"leaks": list(self.leaks)} if self.leaks else {}),
        }

    def to_json(self) -> str:
        """Return one canonical text: equal specs give equal bytes."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Read what ``to_dict`` returned."""
        fields = dict(values)
        fields["validation"] = tuple(fields["validation"])
        fields["leaks"] = tuple(fields.get("leaks", ()))
        fields["hyperparameters"] = tuple(sorted(fields["hyperparameters"].items()))
        return cls(**fields)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
