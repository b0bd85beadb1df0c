"""Models of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matrix import Case, Source


def _saved(fit: Callable[[], Any]) -> Callable[[Path], Source]:
    """Return what writes a skops file of the model that ``fit`` makes."""

    def make(folder: Path) -> Source:
        from skops import io

        path = folder / "model.skops"
        io.dump(fit(), path)
        return Source(path)

    return make


def _iris(named: bool = False) -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data, data.target_names[data.target] if named else data.target


def _cancer() -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def _diabetes() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True)


def people(coded: bool) -> tuple[Any, Any]:
    """Return a DataFrame with categories, as strings or as numbers, and labels that are strings."""
    import pandas

    rng = np.random.default_rng(0)
    rows = 300
    frame = pandas.DataFrame(
        {
            "age": rng.uniform(18, 80, rows),
            "income": rng.lognormal(10, 1, rows),
            "city": rng.choice([10, 20, 30] if coded else ["Bern", "Linz", "Ulm"], rows),
            "plan code": rng.integers(0, 5, rows),
        }
    )
    frame.loc[::17, "age"] = np.nan
    south = frame.city == (30 if coded else "Ulm")
    return frame, np.where((frame.age.fillna(40) > 45) ^ south, "stays", "leaves")


def columns(encoder: Any) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [("num", numbers, ["age", "income"]), ("cat", encoder, ["city", "plan code"])]
    )


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(*_iris(named=True))


def _ridge() -> Any:
    from sklearn.linear_model import Ridge

    features, target = _diabetes()
    return Ridge().fit(features, np.column_stack([target, np.sqrt(target)]))


def _tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    features, labels = _iris(named=True)
    features = features.copy()
    features[::7, 2] = np.nan
    return DecisionTreeClassifier(random_state=0).fit(features, labels)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(10, max_depth=4, random_state=0).fit(*_iris())


def _forest_of_two() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(24, max_depth=8, random_state=0).fit(*_cancer())


def _extra_trees() -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(10, max_depth=5, random_state=0).fit(*_diabetes())


def _boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=20, random_state=0).fit(*_iris())


def _histogram_classifier() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(*_iris(named=True))


def _histogram_regressor() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    category, numbers = rng.integers(0, 6, 400) * 3, rng.normal(size=(400, 2))
    features = np.column_stack([numbers[:, 0], category, numbers[:, 1]])
    target = np.exp(np.isin(category, [3, 9]) + 0.3 * numbers[:, 0])
    model = HistGradientBoostingRegressor(
        loss="poisson", max_iter=15, categorical_features=[1], random_state=0
    )
    return model.fit(features, target)


def _svc_probability() -> Any:
    from sklearn.svm import SVC

    return SVC(probability=True, random_state=0).fit(*_iris())


def _svc_scores() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler
    from sklearn.svm import SVC

    return make_pipeline(RobustScaler(), SVC()).fit(*_cancer())


def _linear_svc() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    return make_pipeline(StandardScaler(), LinearSVC(random_state=0)).fit(*_cancer())


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5).fit(*_iris(named=True))


def _gaussian() -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB().fit(*_iris())


def _multinomial() -> Any:
    from sklearn.naive_bayes import MultinomialNB

    counts = np.random.default_rng(0).integers(0, 8, (300, 12))
    return MultinomialNB().fit(counts, counts[:, :4].sum(1) > counts[:, 4:8].sum(1))


def _network() -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier((20, 10), max_iter=300, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(*_iris(named=True))


def _k_means() -> Any:
    from sklearn.cluster import KMeans

    return KMeans(3, n_init=2, random_state=0).fit(_iris()[0])


def _components() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(MinMaxScaler(), PCA(5), LogisticRegression()).fit(*_cancer())


def _pca() -> Any:
    from sklearn.decomposition import PCA

    return PCA(2, whiten=True).fit(_iris()[0])


def _isolation() -> Any:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=10, max_samples=64, random_state=0).fit(_iris()[0])


def _one_class() -> Any:
    from sklearn.svm import OneClassSVM

    return OneClassSVM(nu=0.1).fit(_iris()[0])


def _polynomial() -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, PowerTransformer

    steps = PowerTransformer(), PolynomialFeatures(2), Ridge()
    return make_pipeline(*steps).fit(_iris()[0][:, :3], _iris()[0][:, 3])


def _categories() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encoder = columns(OneHotEncoder(handle_unknown="ignore"))
    return make_pipeline(encoder, LogisticRegression()).fit(*people(coded=True))


def _strings() -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encoder = columns(OneHotEncoder(handle_unknown="ignore"))
    forest = RandomForestClassifier(10, max_depth=5, random_state=0)
    return make_pipeline(encoder, forest).fit(*people(coded=False))


def _ordinal() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    encoder = columns(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1))
    boosting = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    return make_pipeline(encoder, boosting).fit(*people(coded=True))


def _case(name: str, family: str, fit: Callable[[], Any], **options: Any) -> Case:
    return Case(f"sklearn_{name}", "sklearn", family, _saved(fit), **options)


_PANDAS = {"needs": ("pandas",)}
CASES = (
    _case("logistic_regression", "linear, three classes that are strings", _logistic),
    _case("ridge", "linear, two outputs", _ridge),
    _case("decision_tree", "tree with missing values", _tree),
    _case("random_forest", "random forest, three classes", _forest),
    _case("random_forest_of_two", "random forest, two classes", _forest_of_two),
    _case("extra_trees", "extra trees, regression", _extra_trees),
    _case("gradient_boosting", "gradient boosting", _boosting),
    _case("hist_gradient_boosting", "histogram gradient boosting, classes", _histogram_classifier),
    _case(
        "hist_gradient_boosting_poisson",
        "histogram gradient boosting, regression with categories",
        _histogram_regressor,
    ),
    _case("svc_probability", "support vectors (RBF) with probabilities", _svc_probability),
    _case("svc_scores", "RobustScaler, support vectors with scores", _svc_scores),
    _case("linear_svc", "StandardScaler, linear support vectors", _linear_svc),
    _case("k_neighbors", "nearest neighbours", _neighbours),
    _case("gaussian_nb", "naive Bayes of numbers", _gaussian),
    _case("multinomial_nb", "naive Bayes of counts", _multinomial),
    _case("mlp", "StandardScaler, neural network", _network),
    _case("k_means", "clustering", _k_means),
    _case("pca", "principal components", _pca),
    _case("pca_logistic_regression", "MinMaxScaler, principal components, linear", _components),
    _case("isolation_forest", "isolation forest", _isolation),
    _case("one_class_svm", "support vectors of one class", _one_class),
    _case("polynomial", "PowerTransformer, PolynomialFeatures, linear", _polynomial),
    _case("categories", "ColumnTransformer with OneHotEncoder, linear", _categories, **_PANDAS),
    _case("ordinal", "ColumnTransformer with OrdinalEncoder, boosting", _ordinal, **_PANDAS),
    _case(
        "strings", "ColumnTransformer with OneHotEncoder of strings, forest", _strings, **_PANDAS
    ),
)
