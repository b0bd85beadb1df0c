"""``lineage.yaml``, and the predicate of a bundle's training statement: how a model came to be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from mlopsc.schema.common import Digest, Frozen

LINEAGE_FILE = "lineage.json"
TRAINING_PREDICATE = "urn:mlopsc:training:v1"
Name = Annotated[str, StringConstraints(min_length=1)]
Sensitivity = Literal["public", "internal", "confidential", "personal", "special-category"]
Role = Literal["training", "validation", "test", "calibration"]


class ModelFacts(Frozen):
    """What the model is and what it is for; goes into the model card.

    Attributes:
        licence: SPDX identifier or expression of the weights, such as ``Apache-2.0``.
        owner: Who answers for the model.
        description: One or two sentences.
        task: Such as ``image-classification``.
        architecture: Such as ``convolutional neural network``.
        intended_use: What it was made for.
        limitations: Where it is known to fail.
        ethical_considerations: Risks to people, and what was done about them.
    """

    licence: str = ""
    owner: str = ""
    description: str = ""
    task: str = ""
    architecture: str = ""
    intended_use: tuple[Name, ...] = ()
    limitations: tuple[Name, ...] = ()
    ethical_considerations: tuple[Name, ...] = ()


class Dataset(Frozen):
    """One version of a data set.

    Attributes:
        name: As people call it.
        version: The owner's version.
        digest: What ``mlopsc data fingerprint`` prints; it is the version, exactly.
        licence: SPDX identifier or expression, or the name of a contract.
        sensitivity: Class of what a leak would expose.
        owner: Who answers for the data.
        role: What it was used for.
        url: Where it is described.
    """

    name: Name
    version: str = ""
    digest: Digest | None = None
    licence: str = ""
    sensitivity: Sensitivity | None = None
    owner: str = ""
    role: Role = "training"
    url: str = ""


class TrainingCode(Frozen):
    """The code that trained the model.

    Attributes:
        repository: URL without credentials.
        commit: Full hash of the commit.
        dirty: Whether files differed from that commit.
        entry_point: The script or command that was run.
    """

    repository: str = ""
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")] = ""
    dirty: bool | None = None
    entry_point: str = ""


class Framework(Frozen):
    """A framework or library that took part in the training."""

    name: Name
    version: str = ""


class Metric(Frozen):
    """A figure that was measured.

    Attributes:
        name: Such as ``accuracy``.
        value: The figure.
        dataset: Name of the data set.
        slice: The part of it, such as a class or a group, or "" for all.
    """

    name: Name
    value: Annotated[float, Field(allow_inf_nan=False)]
    dataset: str = ""
    slice: str = ""


class ParentModel(Frozen):
    """A model that this one was made from.

    Attributes:
        name: As people call it.
        digest: Of its bundle, or of its file.
        relation: How this one was made from it.
    """

    name: Name
    digest: Digest | None = None
    relation: Literal["fine-tuned", "distilled", "quantised", "pruned", "merged", "other"] = "other"


class Lineage(Frozen):
    """How a model came to be, schema version 1; every part may be unknown.

    Attributes:
        model: What it is and what it is for.
        datasets: What it was trained and measured on.
        code: What trained it.
        configuration: Hyperparameters and the like; JSON values.
        frameworks: What the code ran with.
        metrics: What was measured.
        parents: Models it was made from.
        preprocessing: Digest of the preprocessing that made its inputs, as
            ``mlopsc.load_preprocess(...).digest`` gives it.
    """

    schema_version: Literal[1] = 1
    model: ModelFacts = ModelFacts()
    datasets: tuple[Dataset, ...] = ()
    code: TrainingCode = TrainingCode()
    configuration: dict[str, Any] = Field(default_factory=dict)
    frameworks: tuple[Framework, ...] = ()
    metrics: tuple[Metric, ...] = ()
    parents: tuple[ParentModel, ...] = ()
    preprocessing: Digest | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Lineage:
        names = [(d.name, d.version, d.role) for d in self.datasets]
        if len(set(names)) != len(names):
            raise ValueError("a data set is there twice with the same version and role")
        return self
