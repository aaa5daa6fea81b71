"""Files to begin a model of one's own with: each runs as it is, and says at each line what a person changes."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from tfser.errors import RequestError
from tfser.models import BUILT_IN, COMPARISON

_FOLDER = Path(__file__).parent


def write(path: Path, *, estimator: bool) -> str:
    """Write a template, and return the name of its model.

    Args:
        path: of the new file.
        estimator: an estimator instead of a network.

    Raises:
        RequestError: the file is there already, or cannot be written.
    """
    text = (_FOLDER / f"{'estimator' if estimator else 'network'}.py").read_text(encoding="utf-8")
    if path.suffix != ".py" or not path.stem:
        raise RequestError(f"FILE {path}", ["a model's file ends in .py, such as my_model.py"])
    name = model_name(path.stem, text)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(re.sub(r"\bMine\b", name, text).replace("mine.py", path.name))
    except FileExistsError:
        raise RequestError(f"FILE {path}", ["it is there already and stays as it is; name a new file"]) from None
    except FileNotFoundError:
        raise RequestError(f"FILE {path}", [f"there is no folder {path.parent}; make it first"]) from None
    except OSError as error:
        raise RequestError(f"FILE {path}", [f"it cannot be written: {error.strerror or error}"]) from None
    return name


def model_name(stem: str, text: str) -> str:
    """Return the name of the model in a new file: that of the file as a class has it.

    Args:
        stem: the file's name without its ending.
        text: the template, whose own names are taken.

    >>> model_name("my_model", ""), model_name("mine", ""), model_name("2d-cnn", "")
    ('MyModel', 'Mine', 'Model2dCnn')
    """
    words = re.findall(r"[A-Za-z0-9]+", stem)
    name = "".join(word[0].upper() + word[1:] for word in words) or "Model"
    if name[0].isdigit():
        name = f"Model{name}"
    taken = {*re.findall(r"\w+", re.sub(r"\bMine\b", "", text)), *keyword.kwlist, "all"}
    if name in taken or name.casefold() in {COMPARISON, *(model.name.casefold() for model in BUILT_IN)}:
        name += "Model"
    return name
