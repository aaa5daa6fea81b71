"""From a final trial to the command that trains it again, whichever search chose its settings.

No ledger and no MLflow is opened.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath

from tfser.errors import RequestError, unknown
from tfser.planning.configuration import OwnModel
from tfser.planning.settings_in_words import stated
from tfser.storage.places import slug
from tfser.trial import TrialSpec, numerics_of


def repeat(
    spec: TrialSpec,
    *,
    command: str = "",
    incomplete: bool = False,
    out: str = "repeated",
    own: OwnModel | None = None,
) -> str:
    """Return the command that trains a final trial again, whichever search chose its settings.

    The new trial has the same id, because an id holds settings and epochs but not how they were chosen. With a seed
    above 0 the command trains the smaller seeds too.

    Args:
        spec: the trial.
        command: the sweep's command line, which says where the database is. Without it, or if it does not tell, the
            database is requested by its name, or by a manifest of its name if it is not a known one.
        incomplete: whether the database is not as published.
        out: another folder than the sweep's, whose ledger already has the trial.
        own: what the trial's row says of a model that is not built in; its file has to be what was trained.

    Raises:
        RequestError: a search trial, which only its sweep repeats; a trial of another numerics version; a setting that
            cannot be typed.
    """
    from tfser.databases import KNOWN
    from tfser.models import MODELS, Estimator
    from tfser.planning.settings import hyperparameters

    problems = []
    if spec.purpose == "search":
        problems.append("it is a search trial; the command of its sweep repeats it")
    if spec.purpose == "deploy":
        problems.append("it is a model for use; the command on its model card trains it again")
    if spec.leaks:
        problems.append("it leaks on purpose; the command in the leaks.json of its table repeats it")
    if spec.numerics != (ours := numerics_of(spec.settings)):
        problems.append(
            f"it is of numerics version {spec.numerics}, this tfser is of {ours}; install the one it was made with"
        )
    if spec.model not in MODELS and not spec.source:
        raise RequestError(f"trial {spec.trial_id}", [*problems, unknown("model", spec.model, MODELS)])
    told = stated(spec.model, own, spec.settings)
    settings = {name: typed_form(value) for name, value in told.items()}
    legal = {} if spec.source else hyperparameters(spec.model)
    for name, text in {} if spec.source else settings.items():
        if name not in legal or repr(legal[name].parse(text)) != repr(told[name]):
            problems.append(f"its setting {name}={text} cannot be typed")
    if problems:
        raise RequestError(f"trial {spec.trial_id}", problems)
    of_one = spec.protocol != "corpus"
    requested = _database(command, spec.database, spec.database in KNOWN) if of_one else _corpora(command, spec)
    words = ["python", "-m", "tfser.sweep", *requested]
    words += ["--allow-incomplete"] if incomplete else []
    words += ["--protocol", spec.protocol] if spec.protocol != "speaker" else []
    model = _own_model(command, own) if own is not None else spec.model
    words += ["--fold", spec.fold, "--model", model, "--ablation", spec.ablation, "--seeds", str(spec.seed + 1)]
    words += ["--selection", "oracle"] if spec.purpose == "oracle" else []
    words += ["--trials", "0"]
    fitted = own.kind == "estimator" if own is not None else isinstance(MODELS.get(spec.model), Estimator)
    words += [] if fitted else ["--epochs", str(spec.epochs)]
    words += ["--set", *(f"{name}={text}" for name, text in settings.items())] if settings else []
    return shlex.join([*words, "--out", out])


def _database(command: str, name: str, known_name: bool) -> list[str]:
    """Return the words that request a database: those typed for it, else its name."""
    typed = shlex.split(command)[3:]
    first_option = next((i for i, word in enumerate(typed) if word.startswith("--")), len(typed))
    databases = typed[:first_option]
    matching = [
        word
        for word in databases
        if name in (word, word.partition("=")[0], slug(PurePath(word.partition(":")[2] or word).stem))
    ]
    fallback = databases if len(databases) == 1 else [name if known_name else f"{name}.csv"]
    chosen = (matching or fallback)[0]
    data = [word for before, word in zip(typed, typed[1:], strict=False) if before == "--data"]
    return [chosen, *(["--data", data[-1]] if data else [])]


def _corpora(command: str, spec: TrialSpec) -> list[str]:
    """Return the words that request all databases of a trial whose fold is a corpus, and the file of their emotions.

    They are those that were typed; without a command line, the names of the databases.
    """
    typed = shlex.split(command)[3:]
    first_option = next((i for i, word in enumerate(typed) if word.startswith("--")), len(typed))
    told = [
        word
        for option in ("--data", "--emotions")
        for before, after in zip(typed, typed[1:], strict=False)
        for word in (option, after)
        if before == option
    ]
    return [*(typed[:first_option] or spec.database.split("+")), *told]


def _own_model(command: str, own: OwnModel) -> str:
    """Return the word that names a model that is not built in: the one typed in its sweep, with its folder."""
    return next((word for word in shlex.split(command) if PurePath(word).name == own.typed), own.typed)


def typed_form(value: object) -> str:
    """Return a setting's value as it is typed, so that it is read as the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
