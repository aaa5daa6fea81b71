"""A waveform to the frames of a layer of wav2vec 2.0, HuBERT or WavLM: models that learned from speech without labels.

A bundle of torchaudio names the network and its weights. Nothing is downloaded: the file of the weights has to lie
where ``torch.hub`` keeps such files. It is read as tensors alone (``weights_only``). Ours: an utterance is cut after
30 s (as in EmoBox), and values are kept as float16.

This module knows nothing of databases or packs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchaudio

from tfser.audio.files import Waveform
from tfser.errors import RequestError, in_a_line
from tfser.features.base import Extractor, FeatureSet
from tfser.features.log_mel import RATE_HZ, mono, refuse_short
from tfser.trial import Hyperparameter, Value

VERSION = 1
"""Raised with a change of this file that changes values."""

BUNDLES = (
    "WAV2VEC2_BASE", "WAV2VEC2_LARGE", "WAV2VEC2_LARGE_LV60K", "WAV2VEC2_XLSR53", "WAV2VEC2_XLSR_300M",
    "WAV2VEC2_XLSR_1B", "WAV2VEC2_XLSR_2B", "HUBERT_BASE", "HUBERT_LARGE", "HUBERT_XLARGE", "WAVLM_BASE",
    "WAVLM_BASE_PLUS", "WAVLM_LARGE", "WAV2VEC2_ASR_BASE_10M", "WAV2VEC2_ASR_BASE_100H", "WAV2VEC2_ASR_BASE_960H",
    "WAV2VEC2_ASR_LARGE_10M", "WAV2VEC2_ASR_LARGE_100H", "WAV2VEC2_ASR_LARGE_960H", "WAV2VEC2_ASR_LARGE_LV60K_10M",
    "WAV2VEC2_ASR_LARGE_LV60K_100H", "WAV2VEC2_ASR_LARGE_LV60K_960H", "HUBERT_ASR_LARGE", "HUBERT_ASR_XLARGE",
    "VOXPOPULI_ASR_BASE_10K_DE", "VOXPOPULI_ASR_BASE_10K_EN", "VOXPOPULI_ASR_BASE_10K_ES", "VOXPOPULI_ASR_BASE_10K_FR",
    "VOXPOPULI_ASR_BASE_10K_IT",
)  # fmt: skip
"""Bundles of torchaudio that are wav2vec 2.0, HuBERT or WavLM; those with ASR were trained on to recognise speech."""

LONGEST_S = 30.0
"""What an utterance has beyond it is not read: memory grows with the square of the length."""

WINDOW, HOP = 400, 320
"""Samples that a frame sees in the convolutions, and that it moves on: 25 and 20 ms in every bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Extractor):
    """The output of one layer of a bundle's network."""

    bundle: str
    """One of ``BUNDLES``."""
    layer: int = 0
    """Which transformer layer, from 1; 0 is the last."""

    @classmethod
    def of(cls, settings: Mapping[str, Value]) -> Layer:
        """Return the layer that these settings describe."""
        return cls(bundle=str(settings["bundle"]), layer=int(settings["layer"]))

    @property
    def _layer(self) -> int:
        return self.layer or layers(self.bundle)

    @property
    def id(self) -> str:
        """See ``Extractor``."""
        digest = hashlib.sha256(repr((weights(self.bundle).name, LONGEST_S, VERSION)).encode()).hexdigest()
        return f"ssl-{self.bundle.lower()}-{self._layer}-{digest[:10]}"

    @property
    def bands(self) -> int:
        """See ``Extractor``."""
        return int(_bundle(self.bundle)._params["encoder_embed_dim"])

    @property
    def dtype(self) -> Literal["float16"]:
        """See ``Extractor``."""
        return "float16"

    @property
    def hop_s(self) -> float:
        """See ``Extractor``."""
        return HOP / RATE_HZ

    @property
    def window_s(self) -> float:
        """See ``Extractor``; the transformer sees the whole utterance."""
        return WINDOW / RATE_HZ

    @property
    def words(self) -> str:
        """See ``Extractor``."""
        return (
            f"{RATE_HZ} Hz, torchaudio's {self.bundle}, layer {self._layer} of {layers(self.bundle)}, {self.bands} "
            f"values every {1000 * self.hop_s:g} ms, the first {LONGEST_S:g} s"
        )

    @torch.inference_mode()
    def __call__(self, waveform: Waveform) -> np.ndarray:
        """Return the frames of an utterance: float16, shape (frames, bands).

        Raises:
            ValueError: fewer samples than one frame.
            RequestError: the file of the weights is not there, or is not those of the bundle.
        """
        samples = mono(waveform)
        refuse_short(samples, WINDOW)
        found, _ = _network(self.bundle, weights(self.bundle)).extract_features(
            samples[None, : int(LONGEST_S * RATE_HZ)], num_layers=self._layer
        )
        values: np.ndarray = found[-1][0].numpy()
        most = float(np.finfo(np.float16).max)
        return values.clip(-most, most).astype(np.float16)


def _bundle(name: str) -> Any:
    return getattr(torchaudio.pipelines, name)


def layers(bundle: str) -> int:
    """Return how many transformer layers a bundle's network has."""
    return int(_bundle(bundle)._params["encoder_num_layers"])


def weights(bundle: str) -> Path:
    """Return where the file of a bundle's weights has to lie; ``TORCH_HOME`` moves the folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_bundle(bundle)._path).name


@lru_cache(maxsize=1)
def _network(bundle: str, file: Path) -> Any:
    """Return a bundle's network with its weights, for evaluation.

    Raises:
        RequestError: the file is not there, or is not those of the bundle.
    """
    if not file.is_file():
        raise RequestError(f"bundle {bundle}", [_missing(bundle)])
    try:
        return _bundle(bundle).get_model(dl_kwargs={"weights_only": True, "map_location": "cpu", "progress": False})
    except Exception as error:  # whatever a file that is something else makes of it
        raise RequestError(
            f"bundle {bundle}",
            [f"{file} is not the file of its weights ({in_a_line(error)}); remove it and get it anew"],
        ) from None


def _missing(bundle: str) -> str:
    file = weights(bundle)
    get = f"import torchaudio; torchaudio.pipelines.{bundle}.get_model()"
    return (
        f"bundle: {bundle} needs its weights, {file.name}, and {file} is not there. tfser downloads nothing: put "
        f"the file there on every machine (TORCH_HOME moves the folder); with a network, python -c '{get}' does"
    )


def problems(settings: Mapping[str, Value]) -> list[str]:
    """Return every reason why these settings give no features, in words."""
    bundle, layer = str(settings["bundle"]), int(settings["layer"])
    if layer <= layers(bundle):
        return []
    return [f"layer: {layer} is above {layers(bundle)}, the last layer of {bundle}; 0 is the last one too"]


def missing(settings: Mapping[str, Value]) -> list[str]:
    """Say which file of weights a bundle needs, where it is not there."""
    bundle = str(settings["bundle"])
    return [] if weights(bundle).is_file() else [_missing(bundle)]


SSL = FeatureSet(
    name="ssl",
    meaning="frames of a layer of wav2vec 2.0, HuBERT or WavLM",
    hyperparameters={
        "bundle": Hyperparameter(default="WAV2VEC2_BASE", choices=BUNDLES, help="torchaudio's name of the network"),
        "layer": Hyperparameter(default=0, low=0, high=48, help="transformer layer, counted from 1; 0 is the last"),
    },
    extractor=Layer.of,
    problems=problems,
    missing=missing,
)
