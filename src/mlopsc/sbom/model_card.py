"""The model card of CycloneDX 1.6, as JSON: the library has no class for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlopsc.schema.common import TensorSpec
from mlopsc.schema.lineage import Dataset, Lineage, Metric


def model_card(
    lineage: Lineage,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    datasets: Sequence[str],
) -> dict[str, Any]:
    """Return the card; ``datasets`` are the references of the lineage's data sets."""
    facts = lineage.model
    parameters = {
        "task": facts.task,
        "architectureFamily": facts.architecture,
        "datasets": [{"ref": ref} for ref in datasets],
        "inputs": [{"format": str(spec)} for spec in inputs],
        "outputs": [{"format": str(spec)} for spec in outputs],
    }
    considerations = {
        "useCases": list(facts.intended_use),
        "technicalLimitations": list(facts.limitations),
        "ethicalConsiderations": [{"name": risk} for risk in facts.ethical_considerations],
    }
    metrics = [_metric(metric) for metric in lineage.metrics]
    return known(
        {
            "modelParameters": known(parameters),
            "quantitativeAnalysis": known({"performanceMetrics": metrics}),
            "considerations": known(considerations),
        }
    )


def dataset_data(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the field ``data`` of a data set's component."""
    owners = [{"organization": {"name": dataset.owner}}] if dataset.owner else []
    data = {
        "name": dataset.name,
        "classification": dataset.sensitivity,
        "governance": known({"owners": owners}),
    }
    return [{"type": "dataset", **known(data)}]


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that say something."""
    return {key: value for key, value in fields.items() if value}


def _metric(metric: Metric) -> dict[str, str]:
    part = metric.slice
    if metric.dataset:
        part = f"{metric.slice or 'all'} of {metric.dataset}"
    return known({"type": metric.name, "value": repr(metric.value), "slice": part})
