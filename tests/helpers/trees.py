"""Corpora of the real layout and full counts with a little noise for audio, made by code.

Every function takes the folder that holds corpora, writes one corpus into it and returns the corpus's folder. Files
are as many as published, a few thousand samples long, and no two are equal. Layouts follow the published
corpora, with what lies beside the audio on real disks (files of other systems, single raters, songs).
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfser.databases import KNOWN, load
from tfser.databases.corpora import casia, cremad, emodb, emovo, ravdess, savee, tess

SAMPLES = 2000

_NOISE = (1500 * np.random.RandomState(7).standard_normal(1 << 17)).clip(-30000, 30000).astype("<i2").tobytes()
_APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\x00\x00\x00\x09\x00\x00\x00\x32\xff\xfe"


def wav_bytes(number: int, samples: int = SAMPLES, rate_hz: int = 16_000) -> bytes:
    """A 16-bit mono wav file; different numbers give different audio."""
    begin = 2 * (number * 131 % 60_000)
    body = bytearray((_NOISE * (1 + 2 * samples // (len(_NOISE) // 2)))[begin : begin + 2 * samples])
    body[-16:] = struct.pack("<8h", *((number >> shift & 0xFF) * 16 for shift in range(0, 64, 8)))
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + len(body))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    )
    return head + b"data" + struct.pack("<I", len(body)) + bytes(body)


class _Writer:
    """Writes numbered files below one folder."""

    def __init__(self, root: Path, name: str, samples: int) -> None:
        self.root, self.samples = root, samples
        self.rate_hz = KNOWN[name].info.sampling_rate_hz or 16_000
        self.numbers = itertools.count()

    def wav(self, relative: str) -> None:
        path = self.root / relative
        try:
            path.write_bytes(self._next())
        except FileNotFoundError:
            path.parent.mkdir(parents=True)
            path.write_bytes(wav_bytes(next(self.numbers), self.samples, self.rate_hz))

    def _next(self) -> bytes:
        return wav_bytes(next(self.numbers), self.samples, self.rate_hz)

    def text(self, relative: str, text: str) -> None:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def iemocap_turns() -> list[tuple[str, str, str]]:
    """(turn, label code, true speaker) of every turn of the made-up IEMOCAP.

    1142 of the 2280 kept turns lie in a dialog that is named after the other speaker, as in the real corpus.
    """
    codes = {"angry": "ang", "happy": "hap", "neutral": "neu", "sad": "sad"}
    kept = [
        (speaker, codes[emotion])
        for speaker, row in KNOWN["iemocap"].info.expected_speaker_emotions.items()
        for emotion, count in row.items()
        for _ in range(count)
    ]
    placed = [(speaker, code, number % 2 == 1 or number in (0, 2)) for number, (speaker, code) in enumerate(kept)]
    extra = itertools.cycle(("fru", "fea", "sur", "dis", "oth", "xxx"))
    speakers = list(KNOWN["iemocap"].info.expected_speakers)
    placed += [(speakers[n % 10], "exc", n % 20 < 10) for n in range(663)]
    placed += [(speakers[n % 10], next(extra), n % 20 < 10) for n in range(300)]
    turns: list[tuple[str, str, str]] = []
    numbers: dict[tuple[str, str], int] = {}

    def add(dialog: str, speaker: str, code: str) -> None:
        number = numbers.get((dialog, speaker), 0)
        numbers[dialog, speaker] = number + 1
        turns.append((f"{dialog}_{speaker[-1]}{number:03d}", code, speaker))

    for number, (speaker, code, other) in enumerate(placed):
        letter = {"F": "M", "M": "F"}[speaker[-1]] if other else speaker[-1]
        scene = ("01", "02", "03", "04", "05", "06", "07", "08", "05a", "05b")[number // 2 % 10]
        add(f"{speaker[:5]}{letter}_impro{scene}", speaker, code)
    for speaker in speakers:  # scripted dialogs carry the kept labels too, and must not be counted
        for scene in ("01_1", "01_1b", "02_2", "03_2"):
            for letter in "FM":
                for code in (*codes.values(), "exc", "fru", "xxx"):
                    add(f"{speaker[:5]}{letter}_script{scene}", speaker, code)
    return turns


def iemocap(data: Path, samples: int = SAMPLES, folder: str = "IEMOCAP_full_release") -> Path:
    """All label kinds, scripted dialogs, single raters' folders, files of other systems."""
    root = data / folder
    write = _Writer(root, "iemocap", samples)
    dialogs: dict[str, list[tuple[str, str]]] = {}
    for turn, code, _ in iemocap_turns():
        dialogs.setdefault(turn.rpartition("_")[0], []).append((turn, code))
    for dialog, turns in dialogs.items():
        session = f"Session{dialog[4]}"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for number, (turn, code) in enumerate(turns):
            lines += [
                f"[{3 * number + 0.29:.4f} - {3 * number + 2.2357:.4f}]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]",
                "C-E2:\tNeutral;\t()",
                "C-F1:\tNeutral; Sadness;\t(calm)",
                "A-E3:\tval 3; act 2; dom  2;\t()",
                "",
            ]
            write.wav(f"{session}/sentences/wav/{dialog}/{turn}.wav")
        labels = f"{session}/dialog/EmoEvaluation"
        write.text(f"{labels}/{dialog}.txt", "\n".join(lines))
        write.text(f"{labels}/Categorical/{dialog}_e1_cat.txt", "".join(f"{turn} :Anger; ()\n" for turn, _ in turns))
        write.text(
            f"{labels}/Attribute/{dialog}_e1_atr.txt",
            "".join(f"{turn} :act 3; :val 3; :dom  3; ()\n" for turn, _ in turns),
        )
        (root / labels / f"._{dialog}.txt").write_bytes(_APPLE_DOUBLE)
        (root / session / "sentences" / "wav" / dialog / f"._{turns[0][0]}.wav").write_bytes(_APPLE_DOUBLE)
    return root


def casia_tree(data: Path, samples: int = SAMPLES) -> Path:
    """Speaker, emotion, text, as folders."""
    write = _Writer(data / "casia", "casia", samples)
    for speaker, emotion, text in itertools.product(casia.SPEAKERS, casia.EMOTIONS, casia.TEXTS):
        write.wav(f"{speaker}/{emotion}/{text}.wav")
    return write.root


def casia_flat(data: Path, samples: int = SAMPLES) -> Path:
    """The variant with everything in the name, ``normal`` for neutral and a folder above."""
    write = _Writer(data / "CASIA", "casia", samples)
    for speaker, emotion, text in itertools.product(casia.SPEAKERS, casia.EMOTIONS, casia.TEXTS):
        word = "normal" if emotion == "neutral" else emotion
        write.wav(f"相同文本300/{word}/{text}-{word}-{speaker.lower()}.wav")
    return write.root


def abc(data: Path, samples: int = SAMPLES) -> Path:
    """A manifest with the corpus's spellings."""
    write = _Writer(data / "abc", "abc", samples)
    spelt = {
        "aggressive": "Agressiv",
        "cheerful": "Cheerfull",
        **{e: e.capitalize() for e in ("intoxicated", "nervous", "neutral", "tired")},
    }
    lines, number = ["path,speaker,emotion"], itertools.count()
    for emotion, count in KNOWN["abc"].info.expected_emotions.items():
        for _ in range(count):
            n = next(number)
            write.wav(f"wav/{n:03d}.wav")
            lines.append(f"wav/{n:03d}.wav,{n % 8 + 1},{spelt[emotion]}")
    write.text("manifest.csv", "\n".join(lines) + "\n")
    return write.root


def emodb_tree(data: Path, samples: int = SAMPLES) -> Path:
    """``wav/`` with the published counts per speaker and emotion, beside folders that hold no audio."""
    write = _Writer(data / "EmoDB", "emodb", samples)
    letters = {word: letter for letter, word in emodb.LETTERS.items()}
    for speaker, row in emodb.INFO.expected_speaker_emotions.items():
        for emotion, count in row.items():
            names = itertools.islice(itertools.product("abcd", emodb.TEXTS), count)
            for take, text in names:
                write.wav(f"wav/{speaker}{text}{letters[emotion]}{take}.wav")
    write.text("lablaut/03a01Fa.lablaut", "signal\n")
    write.text("erkannt.txt", "Satz erkannt natuerlich\n")
    return write.root


def ravdess_tree(data: Path, samples: int = SAMPLES) -> Path:
    """Actors' folders, with songs and a video beside the speech."""
    write = _Writer(data / "RAVDESS" / "Audio_Speech_Actors_01-24", "ravdess", samples)
    for name in sorted(ravdess.ids()):
        write.wav(f"Actor_{name[-2:]}/{name}.wav")
    write.wav("Actor_01/03-02-01-01-01-01-01.wav")
    write.text("Actor_01/01-01-01-01-01-01-01.mp4", "a video\n")
    return data / "RAVDESS"


def cremad_tree(data: Path, samples: int = SAMPLES) -> Path:
    """``AudioWAV/`` beside the same in mp3, which is not read."""
    write = _Writer(data / "CREMA-D", "cremad", samples)
    for name in sorted(cremad.ids()):
        write.wav(f"AudioWAV/{name}.wav")
    write.text("AudioMP3/1001_DFA_ANG_XX.mp3", "an mp3\n")
    return write.root


def savee_tree(data: Path, samples: int = SAMPLES) -> Path:
    """A folder per speaker."""
    write = _Writer(data / "SAVEE" / "AudioData", "savee", samples)
    for name in sorted(savee.ids()):
        write.wav(name.replace("_", "/") + ".wav")
    write.text("Info.txt", "Speakers\n")
    return data / "SAVEE"


def savee_flat(data: Path, samples: int = SAMPLES) -> Path:
    """The variant with the speaker in the name."""
    write = _Writer(data / "savee", "savee", samples)
    for name in sorted(savee.ids()):
        write.wav(f"ALL/{name}.wav")
    return write.root


def emovo_tree(data: Path, samples: int = SAMPLES) -> Path:
    """A folder per speaker, documents beside."""
    write = _Writer(data / "EMOVO", "emovo", samples)
    for name in sorted(emovo.ids()):
        write.wav(f"{name[4:6]}/{name}.wav")
    write.text("documents/readme.txt", "EMOVO\n")
    return write.root


def tess_tree(data: Path, samples: int = SAMPLES) -> Path:
    """Folders as published, with their changing spellings and the one misnamed file. The words are made up."""
    write = _Writer(data / "TESS Toronto emotional speech set data", "tess", samples)
    words = [
        "back",
        "bite",
        *("".join(letters) for letters in itertools.islice(itertools.product("bcdfgh", "aeiou", "lmnprst", "k"), 198)),
    ]
    folders = {
        "OAF": {"fear": "OAF_Fear", "ps": "OAF_Pleasant_surprise", "sad": "OAF_Sad"},
        "YAF": {"ps": "YAF_pleasant_surprised"},
    }
    for speaker, code, word in itertools.product(tess.SPEAKERS, tess.CODES, words):
        name = f"{speaker}_{word}_{code}"
        name = "OA_bite_neutral" if name == "OAF_bite_neutral" else name
        write.wav(f"{folders[speaker].get(code, f'{speaker}_{code}')}/{name}.wav")
    return write.root


def nemo(data: Path, samples: int = SAMPLES) -> Path:
    """``samples/`` and the table beside it."""
    write = _Writer(data / "nEMO", "nemo", samples)
    for speaker, row in KNOWN["nemo"].info.expected_speaker_emotions.items():
        for emotion, count in row.items():
            for sentence in range(1, count + 1):
                write.wav(f"samples/{speaker}_{emotion}_{sentence}.wav")
    write.text("data.tsv", "file_id\temotion\traw_text\n")
    return write.root


TREES: dict[str, Callable[[Path], Path]] = {
    "abc": abc,
    "casia": casia_tree,
    "cremad": cremad_tree,
    "emodb": emodb_tree,
    "emovo": emovo_tree,
    "iemocap": iemocap,
    "nemo": nemo,
    "ravdess": ravdess_tree,
    "savee": savee_tree,
    "tess": tess_tree,
}
"""A database's name to the function that makes it in its first layout."""


def few(name: str, data: Path, *, of_each: int = 2) -> Path:
    """Make a corpus and delete the audio of all but so many utterances of each speaker and emotion."""
    root, kept = TREES[name](data), Counter[tuple[str, str]]()
    for utterance in load(name, data).utterances:
        kept[utterance.speaker, utterance.emotion] += 1
        if kept[utterance.speaker, utterance.emotion] > of_each:
            assert utterance.path is not None
            utterance.path.unlink()
    return root
