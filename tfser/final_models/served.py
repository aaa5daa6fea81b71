"""The file that MLflow runs to serve a final trial's model: audio in, emotion and probabilities out.

MLflow copies it into every logged model (models from code), so that no class is pickled. Nothing imports it. The server
needs tfser. Beside it lie the blueprint as JSON and the weights, which are loaded as tensors only, or the fitted state
of an estimator, which is loaded by skops.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import torch

from tfser.errors import RequestError
from tfser.final_models.estimator import FinalEstimator, scored
from tfser.final_models.model import Blueprint, FinalModel, read
from tfser.storage import temporary

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # about type hints of MLflow's own
    from mlflow.exceptions import MlflowException
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel


class Served(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Turns a column ``audio``, which holds the bytes of files, into the columns ``emotion`` and ``p_<emotion>``."""

    def load_context(self, context: Any) -> None:
        """Rebuild the model.

        Raises:
            ValueError: its weights are damaged.
            RequestError: it cannot be rebuilt.
        """
        blueprint = Blueprint.read(Path(context.artifacts["trial"]).read_text(encoding="utf-8"))
        self._model: FinalModel | FinalEstimator
        if "state" in context.artifacts:
            self._model = FinalEstimator(blueprint, Path(context.artifacts["state"]).read_bytes())
        else:
            weights = torch.load(context.artifacts["weights"], weights_only=True, map_location="cpu")
            self._model = FinalModel(blueprint, weights)
        # The server answers in threads, and torch's settings belong to the process.
        self._one_at_a_time = threading.Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score every row.

        Raises:
            MlflowException: the rows that cannot be used, all of them; the server answers 400.
        """
        with temporary.Folder("audio") as folder, self._one_at_a_time:
            paths = [folder / f"row {i}" for i in range(len(model_input))]
            for path, content in zip(paths, model_input["audio"], strict=True):
                path.write_bytes(content)
            try:
                utterances = read(paths, self._model.extractor)
            except RequestError as error:
                reasons = [problem.replace(f"{folder}/", "") for problem in error.problems]
                raise MlflowException.invalid_parameter_value("; ".join(reasons)) from None
            try:
                scores = [each.probabilities for each in scored(self._model, utterances)]
            except RequestError as error:  # one that needs to know who speaks
                raise MlflowException.invalid_parameter_value("; ".join(error.problems)) from None
        emotions = self._model.emotions
        table = pd.DataFrame(scores, columns=[f"p_{emotion}" for emotion in emotions])
        table.insert(0, "emotion", [emotions[int(p.argmax())] for p in scores])
        return table


set_model(Served())
