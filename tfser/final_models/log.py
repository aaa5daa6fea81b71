"""``predict --log-model``: log a final trial's model to MLflow, and say how to serve it."""

from __future__ import annotations

import shlex

from tfser.errors import RequestError, in_a_line
from tfser.final_models.choices import Source
from tfser.final_models.mlflow_model import log_model
from tfser.record import Record
from tfser.storage import passwords
from tfser.storage.places import read_bytes
from tfser.tracking import connection


def log(run: str, record: Record, place: Source) -> str:
    """Log a trial's model unless it is logged already; return a text that says how to serve it.

    Args:
        run: RUN as typed. If it is an MLflow run, the model goes there, else to the trial's newest run.
        record: the trial's.
        place: where its weights and runs are.

    Raises:
        RequestError: MLflow has no run of the trial, or cannot be written.
    """
    if record.fitted and record.fitted.unkept:
        why = f"its fitted state was not kept, because {record.fitted.unkept}"
        what_to_do = "no model can be logged or served; tfser predict fits it again to score files"
        raise RequestError(f"trial {record.trial_id}", [f"{why}; {what_to_do}"])
    connection.quiet_environment()
    from mlflow import MlflowClient

    uri, trial_id = place.mlflow_uri, record.trial_id
    try:
        client = MlflowClient(tracking_uri=uri)
        experiments = [e.experiment_id for e in client.search_experiments(filter_string="name LIKE 'tfser/%'")]
        found = (
            list(connection.search_runs(client, experiments, f"tags.`tfser.trial_id` = '{trial_id}'"))
            if experiments
            else []
        )
        runs = [r.info.run_id for r in sorted(found, key=lambda r: int(r.info.start_time))]
        run_id = run.lower() if run.lower() in runs else runs[-1] if runs else ""
        content = read_bytes(place.ledger.model_path(record))
        model_id = log_model(client, run_id, record, content, place.ledger.card(trial_id)) if run_id else ""
    except Exception as error:  # MLflow passes on whatever its store raises
        reason = in_a_line(error, 500)
        raise RequestError(f"MLflow at {passwords.redacted(uri)}", [passwords.redacted(reason)]) from None
    if not model_id:
        why = f"it has no run of trial {trial_id}; the command of its sweep logs what is missing"
        raise RequestError(f"MLflow at {passwords.redacted(uri)}", [why])
    at = f"MLFLOW_TRACKING_URI={shlex.quote(passwords.redacted(uri))}"
    return (
        f"logged as models:/{model_id}, at run {run_id}\n"
        f"serve it:  {at} mlflow models serve -m models:/{model_id} --env-manager local --port 5001\n"
        """ask it:    printf '{"dataframe_records": [{"audio": "%s"}]}' "$(base64 < file.wav | tr -d '\\n')" | """
        "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d @-"
    )
