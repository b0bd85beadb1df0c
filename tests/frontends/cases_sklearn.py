"""Models of scikit-learn."""

from __future__ import annotations

from pathlib import Path

from matrix import Case, Source


def _random_forest(folder: Path) -> Source:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from skops import io

    features, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(10, max_depth=4, random_state=0).fit(features, labels)
    io.dump(model, folder / "forest.skops")
    return Source(folder / "forest.skops", {"trust": ["sklearn.tree._tree.Tree"]})


CASES = (Case("sklearn_random_forest", "sklearn", "random forest", _random_forest),)
