"""The model of a final trial, rebuilt from its record and weights to score any audio file.

Model, features, standardisation and emotions come from the record, and audio is read by the code that reads a corpus.
So an utterance gets the scores that were recorded for it, to the bit. Knows nothing of where records are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tfser.databases.base import Database, DatabaseInfo, Utterance
from tfser.databases.folders import show
from tfser.errors import RequestError, TrialError, unknown
from tfser.execution import known_sound
from tfser.features.base import Extractor, loudness_of
from tfser.features.segments import as_tensor, hop_of
from tfser.features.standardise import TRANSDUCTIVE
from tfser.features.store import extract
from tfser.features.threads import one_thread
from tfser.models import MODELS, Network, find
from tfser.planning.settings import build_settings, complete, extractor
from tfser.record import Record, Standardisation, standardisation
from tfser.storage.places import Place
from tfser.training.determinism import settled, weights_digest
from tfser.training.scoring import Scorer, UtteranceScorer
from tfser.training.utterance_rules import UtteranceRule
from tfser.trial import TrialSpec, numerics_of

CPU = torch.device("cpu")

NEEDS_SPEAKER = (
    "it standardises each speaker with all of that speaker's utterances, and a single one does not tell them; give "
    "every file of one speaker to tfser predict with --one-speaker"
)
"""Why a model that is standardised per speaker refuses files of which it does not know the speaker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything that rebuilds a final trial's model, except the weights. It names no utterance and no host."""

    spec: TrialSpec
    emotions: tuple[str, ...]
    standardisation: Standardisation | None
    weights_sha256: str
    known_sound: tuple[float, ...]
    versions: Mapping[str, str]
    device: str

    @classmethod
    def of(cls, record: Record) -> Blueprint:
        """Return the blueprint of a record."""
        return cls(
            spec=record.spec,
            emotions=record.scores.emotions,
            standardisation=record.standardisation,
            weights_sha256=record.weights_sha256,
            known_sound=record.known_sound,
            versions=record.versions,
            device=record.machine.device,
        )

    @classmethod
    def read(cls, text: str) -> Blueprint:
        """Read what ``to_json`` of this version of tfser, or of another, wrote.

        Raises:
            RequestError: this tfser has no such settings.
        """
        values = json.loads(text)
        versions = values.get("versions", {})
        try:
            spec = TrialSpec.from_dict(values["spec"])
        except (KeyError, TypeError, ValueError) as error:
            why = f"its settings are not those of this tfser ({error}); use {in_words(versions)}, which trained it"
            raise RequestError(f"trial {values['trial_id']}", [why]) from None
        return cls(
            spec=spec,
            emotions=tuple(values["emotions"]),
            standardisation=standardisation(values.get("standardisation")),
            weights_sha256=values.get("weights_sha256", ""),
            known_sound=tuple(values.get("known_sound", ())),
            versions=versions,
            device=values["machine"]["device"],
        )

    def to_json(self) -> str:
        """Return the blueprint as JSON."""
        values = {
            "trial_id": self.spec.trial_id,
            "spec": self.spec.to_dict(),
            "emotions": self.emotions,
            "standardisation": asdict(self.standardisation) if self.standardisation else None,
            "weights_sha256": self.weights_sha256,
            "known_sound": self.known_sound,
            "versions": dict(self.versions),
            "machine": {"device": self.device},
        }
        return json.dumps(values, sort_keys=True, ensure_ascii=True, allow_nan=False)


_FILES = DatabaseInfo(
    name="files",
    title="files",
    language="",
    licence="",
    citation="",
    homepage="",
    how_to_get="",
    layout="",
    emotions=(),
)
"""A database for files that belong to none, so that they are read and checked by the same code."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Class probabilities of one utterance."""

    probabilities: np.ndarray
    """float64, shape (emotions,): by the trial's utterance rule, such as the mean over the segments."""
    segments: np.ndarray
    """float64, shape (segments, emotions)."""
    frames: np.ndarray
    """int64, shape (segments, length): indices of the utterance's frames in each segment."""


class FinalModel:
    """The model of a final trial, with its features.

    It scores on the kind of device that the trial was trained on, if this machine has it, else on the CPU. Only on the
    same kind are the scores equal to the bit.

    Args:
        blueprint: says how to rebuild it.
        weights: its weights.

    Raises:
        ValueError: the weights are not the trial's.
        RequestError: this tfser cannot give the trial's scores: it computes other numbers or has no such model, setting
            or network.
    """

    def __init__(self, blueprint: Blueprint, weights: Mapping[str, torch.Tensor]) -> None:
        self.spec = spec = blueprint.spec
        self.trial_id = spec.trial_id
        self._trained = trained = in_words(blueprint.versions)
        declared = find(spec.model, spec.source)
        if why := other_numerics(blueprint) or ("" if isinstance(declared, Network) else unknown_model(blueprint)):
            raise self._refused(why)
        assert isinstance(declared, Network)
        if (bands := blueprint.standardisation) is None or not blueprint.weights_sha256:
            raise self._refused(f"its entry has no standardisation or no weights_sha256; use {trained}, which wrote it")
        self.emotions, self.bands = blueprint.emotions, bands
        try:
            self.attention = declared.attention
            self.settings = complete(declared, spec.settings)
            self.extractor: Extractor = extractor(declared, spec.settings)
            with settled(CPU):  # building draws parameters, and must not move the random state of the process
                model = declared.build(spec.ablation, build_settings(declared, spec.settings), len(self.emotions))
        except RequestError as error:
            raise self._refused(
                f"{error.source} cannot be built: {'; '.join(error.problems)}; use {trained}, which trained it"
            ) from None
        except (KeyError, TypeError) as error:
            raise self._refused(
                f"its settings are not those of this tfser ({error}); use {trained}, which trained it"
            ) from None
        if weights_digest(weights) != blueprint.weights_sha256:
            raise ValueError("their checksum is not the one in the entry")
        try:
            self.rule, own = UtteranceRule.of(self.settings).restored(weights)
            model.load_state_dict(own)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            why = " ".join(str(error).split())[:300]
            raise self._refused(
                f"its weights are whole but do not fit the network of this tfser ({why}); use {trained}"
            ) from None
        self.scorer = Scorer(
            model, np.array(bands.mean), np.array(bands.std), _device(blueprint.device), self.extractor.channels
        )
        self._of_utterance = UtteranceScorer(
            scorer=self.scorer, settings=self.settings, rule=self.rule, loudness=loudness_of(self.extractor)
        )
        if blueprint.known_sound:
            heard = known_sound.scores(self.scorer, declared, spec.settings, self.rule)
            self._compare("a made-up sound", heard, blueprint.known_sound)

    def _refused(self, why: str) -> RequestError:
        return RequestError(f"trial {self.trial_id}", [why])

    def compare(self, utterances: Mapping[str, np.ndarray], recorded: Mapping[str, Sequence[float]]) -> None:
        """Check that utterances get the scores that were recorded for them; not where the others of a speaker count.

        Args:
            utterances: frames by id: float32, shape (frames, values).
            recorded: probabilities by id.

        Raises:
            RequestError: an utterance gets other scores.
        """
        for name, frames in () if self.per_speaker else utterances.items():
            self._compare(f"the test utterance {show(name)}", self.score(frames).probabilities.tolist(), recorded[name])

    def _compare(self, what: str, found: Sequence[float], recorded: Sequence[float]) -> None:
        if not known_sound.same(found, recorded):
            most = int(np.argmax(np.abs(np.array(found) - recorded)))
            now, then = (f"{100 * p[most]:.2f} %" for p in (found, recorded))
            raise self._refused(
                f"it gives {what} {now} for {self.emotions[most]}, where {then} was recorded: the code or the "
                f"libraries are not those that trained it; use {self._trained}, unchanged, or take its entry out of "
                "the ledger and type its sweep's command again"
            )

    def pack(self, features: Place) -> Place:
        """Return the path, without suffix, at which a feature store keeps the frames of the trial's database."""
        return features / self.extractor.id / f"{self.spec.database}-{self.spec.database_digest}"

    @property
    def segment(self) -> tuple[int, int]:
        """Frames in a segment, and frames between the starts of two segments."""
        return int(self.settings["segment_frames"]), hop_of(self.settings, "scoring")

    @property
    def per_speaker(self) -> bool:
        """Whether an utterance can be scored only beside the others of its speaker."""
        return bool(self.settings.get("standardisation") == TRANSDUCTIVE)

    def score(self, frames: np.ndarray, beside: Sequence[np.ndarray] = ()) -> Scored:
        """Score one utterance, as a trial does for its record.

        Args:
            frames: what the model reads: float32, shape (frames, values).
            beside: all utterances of its speaker, itself among them; for a model that is ``per_speaker`` only.

        Raises:
            TrialError: a score is not finite.
            RequestError: the model needs the others of the speaker, and there is none.
        """
        self._need_speaker(beside)
        probabilities, segments, taken = self._of_utterance(as_tensor(frames), beside)
        if not np.isfinite(segments).all():
            raise TrialError(f"trial {self.trial_id}: the scores are not finite")
        return Scored(probabilities, segments, taken)

    def gathered(self, frames: np.ndarray, taken: np.ndarray) -> torch.Tensor:
        """Return the frames of segments on the model's device: (segments, length, values).

        Args:
            frames: float32, shape (frames, values).
            taken: int64, shape (segments, length).

        Raises:
            RequestError: the model needs the others of the speaker.
        """
        self._need_speaker(())
        return self._of_utterance.gathered(as_tensor(frames), taken)

    def _need_speaker(self, beside: Sequence[np.ndarray]) -> None:
        if self.per_speaker and not beside:
            raise self._refused(NEEDS_SPEAKER)

    def span_s(self, taken: np.ndarray) -> tuple[float, float]:
        """Return the first and last second that the analysis windows of a segment's frames cover.

        Args:
            taken: int64, shape (length,).
        """
        centres = self.extractor.first_s + taken * self.extractor.hop_s
        half = self.extractor.window_s / 2
        return float(centres.min() - half), float(centres.max() + half)


def read(paths: Sequence[Path], extractor: Extractor) -> list[np.ndarray]:
    """Read audio files as features, with the code that reads a corpus: shape (rows, values) each.

    Raises:
        RequestError: the files that cannot be used, all of them.
    """
    frames, problems = [], []
    with settled(CPU), one_thread():
        for path in paths:
            utterance = Utterance(id=str(path), speaker="", emotion="", path=path)
            found, wrong = extract(Database(info=_FILES, utterances=(utterance,)), utterance, extractor)
            problems += wrong
            if found is not None:
                frames.append(found)
    if problems:
        raise RequestError("audio", [str(problem) for problem in problems])
    return frames


def other_numerics(blueprint: Blueprint) -> str:
    """Return why a trial of another numerics version cannot be scored; empty for one of this version."""
    spec, version = blueprint.spec, in_words(blueprint.versions, "tfser")
    if spec.numerics == (now := numerics_of(spec.settings)):
        return ""
    ours = f"{version} trained it with numerics {spec.numerics}, this one computes numerics {now}"
    return f"{ours}: its scores would differ; use {version}, or type its sweep's command again to train it anew"


def unknown_model(blueprint: Blueprint) -> str:
    """Return the sentence for a trial whose model this process does not have."""
    spec, version = blueprint.spec, in_words(blueprint.versions, "tfser")
    if spec.source:
        return f"{spec.model} of source {spec.source} is not built in; name its file with --model FILE.py:{spec.model}"
    return f"{unknown('model', blueprint.spec.model, MODELS)}; use {version}, which trained it"


def in_words(versions: Mapping[str, str], *names: str) -> str:
    """Return the versions that trained a trial, in words."""
    return ", ".join(
        f"{name} {versions[name]}" for name in names or ("tfser", "torch", "torchaudio") if name in versions
    )


def _device(trained_on: str) -> torch.device:
    if torch.cuda.is_available() and torch.cuda.get_device_name(0) == trained_on:
        return torch.device("cuda")
    return CPU
