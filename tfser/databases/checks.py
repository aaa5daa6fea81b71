"""Faults of a database on disk: of its labels, its counts, and every audio file.

``waveform_problems`` judges one decoded utterance; all code that decodes audio may use it. Nothing here prints, and no
file raises an error: everything found ends in one report.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfser.audio.files import Waveform
from tfser.databases import examine
from tfser.databases.base import Database, DatabaseInfo, Problem, Utterance, counts
from tfser.databases.folders import show
from tfser.databases.reader import harmful
from tfser.errors import AudioError, RequestError
from tfser.evaluation import folds
from tfser.storage.places import Place
from tfser.trial import ProtocolName

SILENT = 10 ** (-70 / 20)
"""Peak beside the mean below which nothing is audible: -70 dB of full scale (10 steps of a 16-bit sample)."""

FULL_SCALE = 0.999
"""Smallest magnitude that counts as full scale."""

CLIPPED_SHARE = 0.001
"""Share of samples at full scale above which an utterance is called clipped; a single loud peak is below it."""

SHORTEST_S = 0.032
"""Seconds of one 512-point frame at 16 kHz; shorter audio has no feature."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(slots=True)
class Report:
    """Everything found."""

    database: Database
    problems: list[Problem] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Durations of the decoded utterances."""
    rates_hz: Counter[int] = field(default_factory=Counter)
    """Utterances per sampling rate."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Utterances with unusable audio, and why (a kind of problem)."""

    @property
    def complete(self) -> bool:
        """Whether the database is fit for use as published."""
        return not harmful(self.problems)

    @property
    def minutes(self) -> float:
        """Minutes of decoded audio."""
        return sum(self.seconds) / 60

    def duration_quantiles_s(self) -> dict[float, float]:
        """Quantile to seconds; empty if nothing was decoded."""
        if not self.seconds:
            return {}
        return dict(zip(QUANTILES, (float(q) for q in np.quantile(self.seconds, QUANTILES)), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``check --json``."""
        table = counts(self.database.utterances)
        emotions = Counter(u.emotion for u in self.database.utterances)
        return {
            "database": self.database.name,
            "complete": self.complete,
            "utterances": len(self.database.utterances),
            "minutes": round(self.minutes, 3),
            "emotions": {emotion: emotions[emotion] for emotion in self.database.emotions},
            "speakers": {
                speaker: {
                    "utterances": sum(table[speaker].values()),
                    "emotions": {emotion: table[speaker][emotion] for emotion in self.database.emotions},
                }
                for speaker in self.database.speakers
            },
            "problems": [{"kind": p.kind, "path": p.path, "detail": p.detail} for p in self.problems],
            "remark": self.database.remark,
            "sampling_rates_hz": {str(rate): count for rate, count in sorted(self.rates_hz.items())},
            "duration_quantiles_s": {str(q): round(s, 3) for q, s in self.duration_quantiles_s().items()},
        }


def check(request: str, data: Place | None) -> Report:
    """Read labels, decode every file, and report all faults.

    Args:
        request: as for ``tfser.databases.load``.
        data: as for ``tfser.databases.load``.

    Raises:
        RequestError: nothing of the database can be read.
    """
    report = Report(*examine(request, data))
    report.problems += _fold_problems(report.database)
    _decode(report)
    return report


def listen(database: Database) -> Report:
    """Decode every file and report the faults of the audio."""
    report = Report(database)
    _decode(report)
    return report


def _fold_problems(database: Database) -> list[Problem]:
    """Say why a sweep would refuse to hold out speakers, or sessions if there are any."""
    found = []
    where = show(database.root) if database.root is not None else database.name
    sessions = any(utterance.session is not None for utterance in database.utterances)
    protocols: tuple[ProtocolName, ...] = ("speaker", "session") if sessions else ("speaker",)
    for protocol in protocols:
        try:
            folds.folds(database.utterances, protocol)
        except RequestError as error:
            kind = "count" if protocol == "speaker" else "note"
            found += [Problem(kind, where, f"--protocol {protocol}: {problem}", "folds") for problem in error.problems]
    return found


def _decode(report: Report) -> None:
    """Add the faults that decoding shows to the report."""
    database = report.database
    first: dict[bytes, Utterance] = {}
    for utterance in database.utterances:
        where = show(utterance.path) if utterance.path is not None else utterance.id
        try:
            waveform = database.read(utterance)
        except AudioError as error:
            report.problems.append(Problem(error.kind, where, show(error.detail)))
            report.unfit[utterance.id] = error.kind
            continue
        report.seconds.append(waveform.samples.shape[1] / waveform.rate_hz)
        report.rates_hz[waveform.rate_hz] += 1
        found = waveform_problems(waveform, database.info, where)
        report.problems += found
        if wrong := harmful(found):
            report.unfit[utterance.id] = wrong[-1].kind
        same = first.setdefault(content(waveform), utterance)
        if same is not utterance:
            problem = duplicate(utterance, same, where)
            report.problems.append(problem)
            if harmful([problem]):
                report.unfit |= {utterance.id: problem.kind, same.id: problem.kind}


def waveform_problems(waveform: Waveform, info: DatabaseInfo, where: str = "") -> list[Problem]:
    """List the faults of one decoded utterance: silent, clipped, too short, another rate, several channels.

    Args:
        waveform: the decoded audio, before any resampling.
        info: the facts about its database, for the published sampling rate.
        where: the text that names the utterance in the problems.
    """
    problems = []
    samples, rate = waveform.samples, waveform.rate_hz
    channels, count = samples.shape
    if count / rate < SHORTEST_S:
        detail = (
            f"{count} samples at {rate} Hz are {1000 * count / rate:.1f} ms; "
            f"one analysis frame needs {1000 * SHORTEST_S:.0f} ms"
        )
        problems.append(Problem("too short", where, detail))
    if silence := _silence(samples):
        problems.append(Problem("silent", where, f"{silence}; nothing can be heard below -70 dB"))
    elif (share := float(np.mean(np.abs(samples) >= FULL_SCALE))) >= CLIPPED_SHARE:
        problems.append(Problem("clipped", where, f"{100 * share:.2f} % of its samples are at full scale"))
    if info.sampling_rate_hz is not None and rate != info.sampling_rate_hz:
        problems.append(Problem("rate", where, f"{rate} Hz, published at {info.sampling_rate_hz} Hz; it is resampled"))
    if channels > 1:
        problems.append(Problem("channels", where, f"{channels} channels; they are averaged"))
    return problems


def _silence(samples: np.ndarray) -> str | None:
    """Say why nothing can be heard in what features read, the mean of the channels; ``None`` if something can.

    A constant is no sound, so that the level is that without the offset.
    """
    if not samples.size:
        return "its loudest sample is exact zero, full scale is 0 dB"
    mean = samples.mean(axis=0)
    peak = _peak(mean)
    if peak >= SILENT:
        return None
    level = f"{20 * np.log10(peak):.0f} dB" if peak > 0 else "exact zero"
    if any(_peak(channel) >= SILENT for channel in samples):
        return f"the loudest sample of the mean of its channels is {level}: they cancel each other, keep one of them"
    if abs(offset := float(mean.mean(dtype=np.float64))) >= SILENT:
        return f"its loudest sample is {level} beside a constant of {offset:.3g}, full scale is 0 dB"
    return f"its loudest sample is {level}, full scale is 0 dB"


def _peak(samples: np.ndarray) -> float:
    """Return the largest distance from the mean."""
    low, high = float(samples.min()), float(samples.max())
    offset = float(samples.mean(dtype=np.float64))
    return max(high - offset, offset - low) if low < high else 0.0


def content(waveform: Waveform) -> bytes:
    """Return a digest that is equal for equal audio, whatever the file's format.

    It covers what features are made of: the mean of the channels, without a last part that fills no analysis frame.
    """
    samples = waveform.samples.mean(axis=0)
    window, hop = round(SHORTEST_S * waveform.rate_hz), max(1, waveform.rate_hz // 100)
    if len(samples) > window:
        samples = samples[: window + (len(samples) - window) // hop * hop]
    content = hashlib.blake2b(f"{waveform.rate_hz} {len(samples)} ".encode(), digest_size=16)
    content.update(np.ascontiguousarray(samples).data)
    return content.digest()


def duplicate(utterance: Utterance, same: Utterance, where: str = "") -> Problem:
    """Describe the same audio under two names: harmful if the labels contradict each other.

    Args:
        utterance: the second.
        same: the first.
        where: the text that names the second in the problem.
    """
    text = f"the same audio as {show(same.id)}"
    if utterance.speaker != same.speaker:
        detail = (
            f"{text}, but of another speaker ({utterance.speaker}, there {same.speaker}): "
            "it would be trained on and tested on; correct the labels or remove one"
        )
        return Problem("duplicate", where, detail, "speaker")
    if utterance.emotion != same.emotion:
        labels = f"({utterance.emotion}, there {same.emotion})"
        detail = f"{text}, but with another emotion {labels}; correct the labels or remove one"
        return Problem("duplicate", where, detail, "emotion")
    return Problem("note", where, f"{text}, with the same labels: it counts twice", "copy")
