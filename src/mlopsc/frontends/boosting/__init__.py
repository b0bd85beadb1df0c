"""Boosted ensembles of XGBoost, LightGBM and CatBoost: one description, one way to ONNX.

The three frontends read their framework's own files into an ``Ensemble`` (``forest.py``), without
the framework: these formats are documented, and the converters there are lose missing values,
categories or the last bit of a threshold. The framework is needed to run the original only.
"""
