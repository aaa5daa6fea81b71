"""The model card of a deploy trial, as Markdown: what it is, what it was trained on, and what is known of its recalls.

Headings are those of "Model Cards for Model Reporting" (Mitchell et al. 2019) as model hubs use them. Every number is
that of a record; what is not known is said to be so. Knows no file and no MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfser.databases.base import DatabaseInfo
from tfser.errors import counted
from tfser.evaluation import metrics, uncertainty
from tfser.models import find
from tfser.planning import settings_in_words
from tfser.planning.configuration import Configuration
from tfser.planning.settings import extractor
from tfser.record import Record
from tfser.report.summary import Summary
from tfser.report.tables import paired
from tfser.report.tables.formats import escape_markdown
from tfser.report.tables.table import known, percent

CHOSEN = {
    "published": "Settings and epochs are the paper's; nothing was chosen on data.",
    "fixed": "Settings or epochs were given by hand or are tfser's; nothing was chosen on data.",
    "nested": "Settings and epochs were chosen by their mean UAR on validation speakers, in a search of its own over "
    "all {units}: each search model was trained without its validation {unit}, and this one on all of them.",
    "global": "Settings and epochs are the one choice of the search over all folds, by the mean UAR on validation "
    "{units}.",
}
"""How the model's settings came about, by the selection of its row."""

OUT_OF_SCOPE = (
    "Decisions about people, such as on work, education, insurance, credit, health, policing or borders. A score says "
    "how a recording sounds beside the training recordings, not what a person feels, means or will do. The law may "
    "forbid it: in the European Union, to infer emotions at work and in education (Regulation 2024/1689, Article 5).",
    "Speech of other languages, ages, rooms, microphones or situations than those it was trained on, until it was "
    "evaluated there.",
    "Emotions that are not in its list: every recording gets one of them, also silence, noise or music.",
)
"""What the model is not for."""

UNSTATED = ("", "none", "not stated")
"""Words of a database where a fact is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a card tells beside the trial's own record."""

    record: Record
    configuration: Configuration
    info: DatabaseInfo
    """Facts of its database, licence included."""
    remark: str
    """What has to be said of the data; may be empty."""
    summary: Summary | None
    """Leave-one-out results of the same configuration; ``None`` where there are none."""
    sweeps: Sequence[str]
    """The sweeps that hold those."""
    command: str
    """What trained the model."""


def text(about: About) -> str:
    """Return the card."""
    parts = {
        f"Model card: {_title(about)} for {_cell(about.info.title)}": _details(about),
        "Intended use": _intended(about),
        "Out of scope": [f"- {line}" for line in OUT_OF_SCOPE],
        "Training data": _data(about),
        "Training": _training(about),
        "Evaluation": _evaluation(about),
        "Limits": _limits(about),
        "Licence": _licence(about),
        "How to make it again": ["```", about.command, "```", "", f"Versions: {_named(about.record.versions)}."],
    }
    heads = iter(["#"])
    return "\n\n".join(f"{next(heads, '##')} {title}\n\n" + "\n".join(lines) for title, lines in parts.items()) + "\n"


def _title(about: About) -> str:
    spec, own = about.record.spec, about.configuration.own
    declared = find(spec.model, spec.source)
    title = own.title if own is not None else declared.title if declared is not None else spec.model
    return _cell(f"{title}, {spec.ablation}")


def _cell(value: str) -> str:
    return escape_markdown(value)


def _named(values: Mapping[str, object]) -> str:
    return ", ".join(f"{_cell(str(name))} {_cell(str(value))}" for name, value in values.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> list[str]:
    ruler = ["---" if i < text_columns else "---:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows)]


def _details(about: About) -> list[str]:
    record, spec = about.record, about.record.spec
    kind = f"network of {record.parameters:,} parameters" if record.fitted is None else "estimator"
    rows = [
        ("trial", f"`{record.trial_id}`"),
        ("model", f"{_cell(spec.model)}, ablation {_cell(spec.ablation)}: {kind}"),
        ("emotions, in the order of the scores", ", ".join(map(_cell, record.scores.emotions))),
        ("seed", str(spec.seed)),
        ("weights", f"SHA-256 `{record.weights_sha256}`" if record.weights_sha256 else "not kept; fitted again"),
    ]
    rows += [("source of the model", f"`{spec.source}`")] if spec.source else []
    said = f"It gives a recording a probability for each of {counted(len(record.scores.emotions), 'emotion')}."
    return [said, "", *_table(("", ""), rows, 2)]


def _intended(about: About) -> list[str]:
    info = about.info
    spoken = f" in {_cell(info.language)}" if info.language not in UNSTATED else ""
    return [
        f"Research on speech emotion recognition and demonstrations, on single utterances of speech{spoken}, recorded "
        f"and spoken as those of {_cell(info.title)} are.",
    ]


def _data(about: About) -> list[str]:
    record, info, training = about.record, about.info, about.record.training
    assert training is not None
    lines = [
        f"{_cell(info.title)} ({_cell(record.spec.database)}, digest `{record.spec.database_digest}`): "
        f"{counted(training.utterances, 'utterance')} of {counted(len(training.speakers), 'speaker')}.",
        *([f"{_cell(about.remark)}."] if about.remark else []),
        *([f"Cite: {_cell(info.citation)}."] if info.citation not in UNSTATED else []),
        "",
        *_table(("emotion", "utterances"), [(_cell(e), str(n)) for e, n in training.emotions.items()]),
        "",
        *_table(("speaker", "utterances"), [(_cell(s), str(n)) for s, n in training.speakers.items()]),
    ]
    if record.inner_speakers:
        names = ", ".join(map(_cell, record.inner_speakers))
        lines += ["", f"Not trained on, but watched to end the training (`inner_speakers`): {names}."]
    return lines


def _training(about: About) -> list[str]:
    record, spec, c = about.record, about.record.spec, about.configuration
    declared = find(spec.model, spec.source)
    chosen = CHOSEN[c.selection].format(unit=c.unit, units=f"{c.unit}s")
    asked = settings_in_words.values(c)
    if "trials" in asked:
        much = (
            f"{counted(int(asked['trials']), 'setting')}, {counted(int(asked['validation_folds']), 'validation fold')}"
        )
        chosen += f" The search: {much} per setting and test fold, sampler {asked['sampler']}."
    lines = [chosen]
    if record.fitted is None:
        lines.append(f"It was trained for {counted(record.epochs, 'epoch')}.")
    if declared is not None:
        lines.append(f"It reads {_cell(declared.feature_set.name)}: {_cell(extractor(declared, spec.settings).words)}.")
    values = {
        name: json.dumps(value) for name, value in settings_in_words.stated(spec.model, c.own, spec.settings).items()
    }
    return [*lines, "", *_table(("setting", "value"), [(f"`{n}`", f"`{v}`") for n, v in values.items()], 2)]


def _evaluation(about: About) -> list[str]:
    c, summary = about.configuration, about.summary
    first = f"This model has no test score: it was trained on every {c.unit}, and none is left to test it on."
    if summary is None or summary.figures is None:
        left = f"No {c.protocol_name} result of the same configuration is known; the command below without"
        return [first, f"{left} `--purpose deploy` makes them."]
    seeds = counted(len(summary.configuration.seeds), "seed")
    done = "" if not summary.incomplete else f" Only {summary.folds} folds are done."
    lines = [
        f"{first} What follows is of **other models**, those of the {c.protocol_name} results of its configuration "
        f"(sweep {', '.join(map(_cell, about.sweeps))}; {seeds}): each was trained "
        f"without one {c.unit} and tested on that one.{done}",
    ]
    if c.selection == "nested":
        lines.append("Each of them has settings of its own choice, which may differ from this model's.")
    return [*lines, "", *_figures(summary), "", *_speakers(summary), "", *_emotions(summary)]


def _figures(summary: Summary) -> list[str]:
    """Return the recalls over all folds with their intervals, as a table."""
    figures, row = summary.figures, paired.scores(summary)
    intervals = uncertainty.intervals(row) if row is not None else {}
    rows = []
    for name, said in (
        ("war_pooled", "WAR, pooled"),
        ("uar_pooled", "UAR, pooled"),
        ("war_mean", "WAR, mean of folds"),
        ("uar_mean", "UAR, mean of folds"),
    ):
        made = intervals.get(name)
        ends = f"{percent(made.low)} to {percent(made.high)}" if made is not None and known(made.low) else "none"
        rows.append((said, percent(getattr(figures, name)), ends))
    return _table(("over all test utterances", "%", "95 % interval"), rows)


def _speakers(summary: Summary) -> list[str]:
    """Return the recalls of each held-out speaker, means over the seeds, as a table."""
    rows = []
    for speaker in summary.speakers:
        each = [_of_speaker(summary, speaker, seed) for seed in summary.configuration.seeds]
        war, uar = (float(np.mean([measure(counts) for counts in each])) for measure in (metrics.war, metrics.uar))
        rows.append((_cell(speaker), str(int(each[0].sum())), percent(war), percent(uar)))
    return _table(("held-out speaker", "utterances", "WAR %", "UAR %"), rows)


def _of_speaker(summary: Summary, speaker: str, seed: int) -> np.ndarray:
    index = {emotion: i for i, emotion in enumerate(summary.configuration.emotions)}
    own = [u for fold in summary.done for u in summary.records[fold, seed].scores.utterances if u.speaker == speaker]
    return metrics.confusion([index[u.truth] for u in own], [u.predicted for u in own], len(index))


def _emotions(summary: Summary) -> list[str]:
    """Return the pooled recall of each emotion, as a table."""
    recalls = zip(summary.configuration.emotions, metrics.recalls(summary.confusion).tolist(), strict=True)
    rows = [(_cell(emotion), percent(recall) if known(recall) else "") for emotion, recall in recalls]
    return _table(("emotion", "recall %, pooled"), rows)


def _limits(about: About) -> list[str]:
    c, training = about.configuration, about.record.training
    assert training is not None
    lines = [
        f"It knows {counted(len(training.speakers), 'speaker')}; its recall on others varies from speaker to speaker.",
        "Probabilities are those of a softmax or of the classifier, and are not calibrated.",
    ]
    if c.same_texts:
        lines.append("All speakers say the same texts, so that the evaluation holds out speakers and not texts.")
    if c.transductive:
        lines.append("Scores depend on what is scored beside a recording, such as the others of its speaker.")
    return [f"- {line}" for line in lines]


def _licence(about: About) -> list[str]:
    info = about.info
    stated = _cell(info.licence) if info.licence not in UNSTATED else "not stated by its source"
    place = f" ({info.homepage})" if info.homepage.startswith("http") else ""
    return [
        f"The recordings: {stated}{place}. A licence that limits their use may limit that of a model of them. tfser "
        "itself is under the MIT licence.",
    ]
