"""Models in MLflow: each logged once, by the training run that made it; rows refer to it, tables register the best.

Importing this takes seconds, as importing MLflow does.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import mlflow
from mlflow.entities import LoggedModelInput, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

from pipeline.tracking.desired import Best, Model, Record

TAG, KEY, ABSENT = "facet.model", "facet.model_key", "absent"
ALIAS = "best"
PAGE = 1000
SERVED_MODEL = Path(__file__).with_name("served_model.py")
SERVED_WITH = ("mlflow", "numpy", "opencv-python-headless", "opencv-python", "pandas", "torch")
"""Packages that the served model imports; of the two OpenCV packages, the installed one."""
NOTE = (
    "The best model of table `{table}` has the alias `best`; `mlflow.pyfunc.load_model` takes its address, "
    "`models:/{name}@best`. Aligned faces in; embeddings, feature norms and qualities, also from 0 to 100, out."
)


class Models:
    """The models of some experiments: those already logged, by key."""

    def __init__(self, client: MlflowClient, experiment_ids: Iterable[str]) -> None:
        self.client = client
        self.ids: dict[str, str] = {}
        for experiment_id in experiment_ids:
            self._read(experiment_id)

    def _read(self, experiment_id: str) -> None:
        token: str | None = None
        while True:
            page = self.client.search_logged_models([experiment_id], max_results=PAGE, page_token=token)
            for model in page:
                # one that a killed process was writing is not ready
                if str(model.status) == "READY" and KEY in model.tags:
                    self.ids.setdefault(model.tags[KEY], model.model_id)
            token = page.token
            if not token:
                return

    def attach(self, run_id: str, record: Record, tag: str | None = None) -> str | None:
        """Attach a model to an active run, logging it if no run has yet; return the model's ID.

        Args:
            run_id: of the run, which is the active one.
            record: what it should be.
            tag: what the run says of its model so far.
        """
        if record.model is None:
            return None
        known = self.ids.get(record.model.key)
        model_id = known or self._log(record.model)
        self.ids[record.model.key] = model_id
        if tag != uri(model_id):
            if known:
                self.client.log_inputs(run_id, models=[LoggedModelInput(model_id)])
            self.client.set_tag(run_id, TAG, uri(model_id))
        return model_id

    def lacks(self, run: Run, record: Record) -> bool:
        """Return whether a finished run lacks its model, or has another one."""
        if record.model is None:
            return False
        known = self.ids.get(record.model.key)
        return known is None or run.data.tags.get(TAG) != uri(known)

    def _log(self, model: Model) -> str:
        """Log the exported program as a pyfunc model of the active run, with its signature; return its ID."""
        facts = json.loads((model.folder / "model.json").read_text(encoding="utf-8"))
        # with the score of the run's quality method, where it has one
        scoring = model.folder.parent / "quality" / "program.pt2"
        program = scoring if scoring.is_file() else model.folder / "program.pt2"
        method = _method(scoring)
        files = {"program": str(program), "about": str(model.folder / "model.json")}
        if model.scales is not None:
            files["scales"] = str(model.scales)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it advises an example beside the signature
            made = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts=files,
                model_config={"quality_method": method},
                signature=signature(),
                # said, not inferred: inference would import everything and take ten seconds
                pip_requirements=[f"{name}=={release}" for name in SERVED_WITH if (release := _release(name))],
                metadata={"weights_sha256": facts["weights_sha256"], "color_order": facts["color_order"],
                          "quality_method": method},
                tags={KEY: model.key},
            )
        return str(made.model_id)

    def register(self, best: Best, run_id: str) -> ModelVersion:
        """Point the alias ``best`` of a registered model at a table's best model: one version per model."""
        model_id = self.ids[best.model.key]
        try:
            self.client.get_registered_model(best.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            note = NOTE.format(table=best.tags["facet.table"], name=best.name)
            self.client.create_registered_model(best.name, {"facet.table": best.tags["facet.table"]}, note)
        version = self._version(best, model_id) or self.client.create_model_version(
            best.name, uri(model_id), run_id, {**best.tags, KEY: best.model.key}, description=best.note,
            model_id=model_id,
        )  # fmt: skip
        for key, value in best.tags.items():
            if version.tags.get(key) != value:
                self.client.set_model_version_tag(best.name, version.version, key, value)
        if version.description != best.note:
            self.client.update_model_version(best.name, version.version, best.note)
        self.client.set_registered_model_alias(best.name, ALIAS, version.version)
        return version

    def _version(self, best: Best, model_id: str) -> ModelVersion | None:
        """Return the existing version of this model, if there is one."""
        for version in self.client.search_model_versions(f"name = '{best.name}'", max_results=PAGE):
            # of a store that was filled anew, the old files are gone
            if version.tags.get(KEY) == best.model.key and version.source == uri(model_id):
                return version
        return None


def uri(model_id: str) -> str:
    """Return the address of a logged model."""
    return f"models:/{model_id}"


def signature() -> ModelSignature:
    """Return the input and output of the served model; an image is bytes, base64 text, an array or a nested list."""
    optional = (
        ("feature_norm", DataType.double), ("quality", DataType.double), ("percent", DataType.double),
        ("scale", DataType.string), ("error", DataType.string),
    )  # fmt: skip
    outputs = [ColSpec(Array(DataType.double), "embedding", required=False)]
    outputs += [ColSpec(kind, name, required=False) for name, kind in optional]
    params = ParamSchema([ParamSpec("scale", DataType.string, "")])
    return ModelSignature(inputs=Schema([ColSpec(AnyType(), "image")]), outputs=Schema(outputs), params=params)


def _method(program: Path) -> str | None:
    """Return the method whose scores a model serves; None for a norm that was measured on another scale only."""
    options = program.with_name("quality.json")
    tree = json.loads(options.read_text(encoding="utf-8")) if options.is_file() else {}
    if program.is_file():
        return str(tree["name"])
    return None if tree.get("scale", "norm") != "norm" else "feature_norm"


def _release(package: str) -> str | None:
    """Return an installed version without its local part: 2.13.0 for torch 2.13.0+cpu, which installs anywhere."""
    try:
        return importlib.metadata.version(package).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None
