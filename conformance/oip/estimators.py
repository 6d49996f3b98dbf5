"""The zoo's models: fitted estimators, the rows to ask for, and stock converters with their default options."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

#: Rows that are asked for.
ROWS = 32
SEED = 7

#: Input name → column(s), shape [rows, width]: float32, int64 or text objects.
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo before it is fitted. `fit_rows` are its data, of which the first `ROWS` are asked for."""

    name: str
    #: `classifier`, `values` (a regressor's `predict`) or `transformer`.
    kind: str
    estimator: Any
    columns: Columns
    target: np.ndarray | None
    #: Whether its converter asks for version 3 of `ai.onnx.ml`, in the message of its refusal.
    old_opset: bool = False

    def frame(self) -> Any:
        """The columns as the estimator takes them."""
        if len(self.columns) == 1:
            (only,) = self.columns.values()
            # A vectorizer takes texts, not rows with one text.
            return only[:, 0] if self.name.startswith("text_") else only
        return np.concatenate([values.astype(np.object_) for values in self.columns.values()], axis=1)

    def fit(self) -> Any:
        """The fitted estimator."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about convergence: what is learned does not matter here
            return self.estimator.fit(self.frame(), self.target)

    def rows(self) -> Columns:
        """The rows to ask for."""
        return {name: values[:ROWS] for name, values in self.columns.items()}

    def answers(self, fitted: Any) -> dict[str, np.ndarray]:
        """What the library says about `rows()`: `label`, `probabilities`, `values`, as far as the kind has them."""
        frame = self.frame()[:ROWS]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.kind == "transformer":
                out = fitted.transform(frame)
                return {"values": np.asarray(out.toarray() if hasattr(out, "toarray") else out)}
            if self.kind == "values":
                return {"values": np.asarray(fitted.predict(frame))}
            answers = {"label": np.asarray(fitted.predict(frame)).reshape(-1)}
            if hasattr(fitted, "predict_proba"):
                answers["probabilities"] = np.asarray(fitted.predict_proba(frame))
            return answers


def convert(entry: Entry, fitted: Any) -> bytes:
    """The model as the stock converter of its library writes it, with default options."""
    import onnxmltools
    import skl2onnx
    from onnxmltools.convert.common.data_types import FloatTensorType as OtherFloats
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"f": FloatTensorType, "i": Int64TensorType, "O": StringTensorType}
    types = [(name, kinds[v.dtype.kind]([None, v.shape[1]])) for name, v in entry.columns.items()]
    library = type(fitted).__module__.split(".")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library in ("xgboost", "lightgbm"):
            how = onnxmltools.convert_xgboost if library == "xgboost" else onnxmltools.convert_lightgbm
            (name, values), *_ = entry.columns.items()
            # The newest opset that onnxmltools knows; its default is the newest of onnx, which it then refuses.
            model = how(fitted, initial_types=[(name, OtherFloats([None, values.shape[1]]))], target_opset=15)
        else:
            _register()
            opsets = {"": 21, "ai.onnx.ml": 3} if entry.old_opset else None
            model = skl2onnx.to_onnx(fitted, initial_types=types, target_opset=opsets)
    written: bytes = model.SerializeToString()
    return written


def _register() -> None:
    """What both converters' documentation asks for, so that a pipeline may end in another library's model."""
    import lightgbm
    import xgboost
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        shapes.calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options=options,
    )
    update_registered_converter(
        lightgbm.LGBMClassifier,
        "LightGbmLGBMClassifier",
        shapes.calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options=options,
    )
    update_registered_converter(
        lightgbm.LGBMRegressor,
        "LightGbmLGBMRegressor",
        shapes.calculate_linear_regressor_output_shapes,
        convert_lightgbm,
        options={"split": None},
    )


def _shuffled(data: Any, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(SEED).permutation(len(data.target))[:count]
    return data.data[order].astype(np.float32), data.target[order]


def _table(count: int = 300) -> tuple[Columns, np.ndarray]:
    """A table of numbers and texts, as a customer's row looks."""
    random = np.random.default_rng(SEED)
    columns: Columns = {
        "age": random.integers(18, 80, (count, 1)).astype(np.float32),
        "charges": random.normal(70, 20, (count, 1)).astype(np.float32),
        "contract": random.choice(np.array(["month", "year", "two years"], dtype=object), (count, 1)),
        "payment": random.choice(np.array(["card", "cheque", "transfer", "münze"], dtype=object), (count, 1)),
    }
    score = columns["charges"][:, 0] / 20 - (columns["contract"][:, 0] != "month") * 2 + random.normal(0, 1, count)
    return columns, np.array(["stays", "leaves"], dtype=object)[(score > 2.5).astype(int)]


def _preparation() -> Any:
    return compose.ColumnTransformer(
        [
            ("numbers", preprocessing.StandardScaler(), [0, 1]),
            ("texts", preprocessing.OneHotEncoder(handle_unknown="ignore"), [2, 3]),
        ]
    )


def entries() -> Iterator[Entry]:
    """Every model of the zoo."""
    yield from _classifiers()
    yield from _regressors()
    yield from _transformers()
    yield from _pipelines()
    yield from _boosters()


def _classifiers() -> Iterator[Entry]:
    iris, species = _shuffled(datasets.load_iris())
    cancer, malign = _shuffled(datasets.load_breast_cancer())
    cancer = preprocessing.StandardScaler().fit_transform(cancer).astype(np.float32)
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[species]
    counts = np.floor(iris * 4).astype(np.float32)
    on_iris: dict[str, Any] = {
        "logistic_regression": linear_model.LogisticRegression(max_iter=500),
        "logistic_regression_cv": linear_model.LogisticRegressionCV(Cs=3, cv=2, max_iter=100),
        "sgd_log_loss": linear_model.SGDClassifier(loss="log_loss", random_state=SEED),
        "sgd_modified_huber": linear_model.SGDClassifier(loss="modified_huber", random_state=SEED),
        "perceptron": linear_model.Perceptron(random_state=SEED),
        "ridge_classifier": linear_model.RidgeClassifier(),
        "linear_svc": svm.LinearSVC(random_state=SEED),
        "svc": svm.SVC(),
        "nu_svc": svm.NuSVC(nu=0.3),
        "calibrated_linear_svc": calibration.CalibratedClassifierCV(svm.LinearSVC(random_state=SEED), cv=3),
        "calibrated_isotonic_tree": calibration.CalibratedClassifierCV(
            tree.DecisionTreeClassifier(max_depth=3, random_state=SEED), method="isotonic", cv=3
        ),
        "decision_tree": tree.DecisionTreeClassifier(max_depth=4, random_state=SEED),
        "extra_tree": tree.ExtraTreeClassifier(max_depth=4, random_state=SEED),
        "random_forest": ensemble.RandomForestClassifier(20, random_state=SEED),
        "extra_trees": ensemble.ExtraTreesClassifier(20, random_state=SEED),
        "gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=20, random_state=SEED),
        "hist_gradient_boosting": ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=SEED),
        "adaboost": ensemble.AdaBoostClassifier(n_estimators=10, random_state=SEED),
        "bagging": ensemble.BaggingClassifier(n_estimators=5, random_state=SEED),
        "voting_soft": ensemble.VotingClassifier(
            [
                ("line", linear_model.LogisticRegression(max_iter=500)),
                ("tree", tree.DecisionTreeClassifier(max_depth=3, random_state=SEED)),
            ],
            voting="soft",
            flatten_transform=False,
        ),
        "stacking": ensemble.StackingClassifier(
            [
                ("tree", tree.DecisionTreeClassifier(max_depth=3, random_state=SEED)),
                ("bayes", naive_bayes.GaussianNB()),
            ],
            linear_model.LogisticRegression(max_iter=500),
        ),
        "k_neighbors": neighbors.KNeighborsClassifier(5),
        "gaussian_nb": naive_bayes.GaussianNB(),
        "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
        "qda": discriminant_analysis.QuadraticDiscriminantAnalysis(),
        "mlp": neural_network.MLPClassifier(hidden_layer_sizes=(16,), max_iter=300, random_state=SEED),
        "one_vs_rest": multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=500)),
        "one_vs_one": multiclass.OneVsOneClassifier(linear_model.LogisticRegression(max_iter=500)),
    }
    for name, estimator in on_iris.items():
        yield Entry(name, "classifier", estimator, {"x": iris}, species)
    on_counts: dict[str, Any] = {
        "multinomial_nb": naive_bayes.MultinomialNB(),
        "complement_nb": naive_bayes.ComplementNB(),
        "bernoulli_nb": naive_bayes.BernoulliNB(binarize=8.0),
        "categorical_nb": naive_bayes.CategoricalNB(min_categories=40),
    }
    for name, estimator in on_counts.items():
        yield Entry(name, "classifier", estimator, {"x": counts}, species)
    again: dict[str, Callable[[], Any]] = {
        "logistic_regression": lambda: linear_model.LogisticRegression(max_iter=500),
        "random_forest": lambda: ensemble.RandomForestClassifier(20, random_state=SEED),
        "gradient_boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=20, random_state=SEED),
        "gaussian_process": lambda: gaussian_process.GaussianProcessClassifier(random_state=SEED),
        "mlp": lambda: neural_network.MLPClassifier(hidden_layer_sizes=(16,), max_iter=200, random_state=SEED),
    }
    for name, estimator in again.items():
        yield Entry(f"{name}_binary", "classifier", estimator(), {"x": cancer}, malign)
        yield Entry(f"{name}_texts", "classifier", estimator(), {"x": iris}, names)


def _regressors() -> Iterator[Entry]:
    data, target = _shuffled(datasets.load_diabetes())
    data = (data * 20).astype(np.float32)
    target = target.astype(np.float64)
    estimators: dict[str, Any] = {
        "linear_regression": linear_model.LinearRegression(),
        "ridge": linear_model.Ridge(),
        "lasso": linear_model.Lasso(),
        "elastic_net": linear_model.ElasticNet(),
        "bayesian_ridge": linear_model.BayesianRidge(),
        "huber": linear_model.HuberRegressor(max_iter=500),
        "lars": linear_model.Lars(),
        "omp": linear_model.OrthogonalMatchingPursuit(),
        "poisson": linear_model.PoissonRegressor(max_iter=300),
        "gamma": linear_model.GammaRegressor(max_iter=300),
        "tweedie": linear_model.TweedieRegressor(power=1.5, max_iter=300),
        "quantile": linear_model.QuantileRegressor(alpha=0.01),
        "sgd_regressor": linear_model.SGDRegressor(random_state=SEED),
        "svr": svm.SVR(C=100),
        "nu_svr": svm.NuSVR(C=100),
        "k_neighbors_regressor": neighbors.KNeighborsRegressor(5),
        "decision_tree_regressor": tree.DecisionTreeRegressor(max_depth=5, random_state=SEED),
        "random_forest_regressor": ensemble.RandomForestRegressor(20, random_state=SEED),
        "extra_trees_regressor": ensemble.ExtraTreesRegressor(20, random_state=SEED),
        "gradient_boosting_regressor": ensemble.GradientBoostingRegressor(n_estimators=20, random_state=SEED),
        "hist_gradient_boosting_regressor": ensemble.HistGradientBoostingRegressor(max_iter=20, random_state=SEED),
        "adaboost_regressor": ensemble.AdaBoostRegressor(n_estimators=10, random_state=SEED),
        "bagging_regressor": ensemble.BaggingRegressor(n_estimators=5, random_state=SEED),
        "voting_regressor": ensemble.VotingRegressor(
            [("line", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=3, random_state=SEED))]
        ),
        "stacking_regressor": ensemble.StackingRegressor(
            [("line", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=3, random_state=SEED))],
            linear_model.Ridge(),
        ),
        "mlp_regressor": neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=300, random_state=SEED),
        "gaussian_process_regressor": gaussian_process.GaussianProcessRegressor(alpha=1.0, random_state=SEED),
        "pls_regression": cross_decomposition.PLSRegression(2),
    }
    for name, estimator in estimators.items():
        yield Entry(name, "values", estimator, {"x": data}, target)
    both = np.stack([target, data[:, 0] * 10 + data[:, 1]], axis=1)
    yield Entry("two_targets", "values", linear_model.LinearRegression(), {"x": data}, both)
    yield Entry(
        "two_targets_tree", "values", tree.DecisionTreeRegressor(max_depth=4, random_state=SEED), {"x": data}, both
    )


def _transformers() -> Iterator[Entry]:
    iris, species = _shuffled(datasets.load_iris())
    holes = iris.copy()
    holes[::5, 1] = np.nan
    texts = np.random.default_rng(SEED).choice(np.array(["a", "bb", "ünï", ""], dtype=object), (120, 2))
    estimators: dict[str, Any] = {
        "standard_scaler": preprocessing.StandardScaler(),
        "min_max_scaler": preprocessing.MinMaxScaler(),
        "max_abs_scaler": preprocessing.MaxAbsScaler(),
        "robust_scaler": preprocessing.RobustScaler(),
        "normalizer": preprocessing.Normalizer(),
        "binarizer": preprocessing.Binarizer(threshold=2.0),
        "polynomial_features": preprocessing.PolynomialFeatures(2),
        "power_transformer": preprocessing.PowerTransformer(),
        "k_bins": preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        "pca": decomposition.PCA(2),
        "truncated_svd": decomposition.TruncatedSVD(n_components=2, random_state=SEED),
        "fast_ica": decomposition.FastICA(n_components=2, random_state=SEED),
        "select_k_best": feature_selection.SelectKBest(k=2),
        "variance_threshold": feature_selection.VarianceThreshold(0.2),
    }
    for name, estimator in estimators.items():
        yield Entry(name, "transformer", estimator, {"x": iris}, species)
    yield Entry("simple_imputer", "transformer", impute.SimpleImputer(), {"x": holes}, None)
    yield Entry("knn_imputer", "transformer", impute.KNNImputer(n_neighbors=3), {"x": holes}, None)
    yield Entry("one_hot_encoder", "transformer", preprocessing.OneHotEncoder(), {"x": texts}, None)
    yield Entry("ordinal_encoder", "transformer", preprocessing.OrdinalEncoder(), {"x": texts}, None)
    yield Entry("k_means", "classifier", cluster.KMeans(n_clusters=3, n_init=1, random_state=SEED), {"x": iris}, None)
    yield Entry(
        "gaussian_mixture", "classifier", mixture.GaussianMixture(n_components=3, random_state=SEED), {"x": iris}, None
    )
    forest = ensemble.IsolationForest(n_estimators=10, random_state=SEED)
    yield Entry("isolation_forest", "classifier", forest, {"x": iris}, None, old_opset=True)
    yield Entry("one_class_svm", "classifier", svm.OneClassSVM(), {"x": iris}, None)
    # Without `lowercase`: ONNX Runtime's operator for it needs the locale en_US.UTF-8, which small systems do not have.
    words = ["plumb line straight wall", "drift far wall", "straight line", "model drift alert", "far far away"] * 12
    sentences = np.array(words, dtype=object).reshape(-1, 1)
    yield Entry(
        "text_count_vectorizer",
        "transformer",
        feature_extraction.text.CountVectorizer(lowercase=False),
        {"x": sentences},
        None,
    )
    yield Entry(
        "text_tfidf_vectorizer",
        "transformer",
        feature_extraction.text.TfidfVectorizer(lowercase=False),
        {"x": sentences},
        None,
    )
    kinds = np.array(["wall" in sentence for sentence in words])
    yield Entry(
        "text_tfidf_logistic",
        "classifier",
        pipeline.make_pipeline(
            feature_extraction.text.TfidfVectorizer(lowercase=False), linear_model.LogisticRegression()
        ),
        {"x": sentences},
        np.where(kinds, "wall", "other").astype(object),
    )


def _pipelines() -> Iterator[Entry]:
    iris, species = _shuffled(datasets.load_iris())
    columns, leaves = _table()
    holes = iris.copy()
    holes[::5, 1] = np.nan
    yield Entry(
        "scaler_pca_logistic",
        "classifier",
        pipeline.make_pipeline(
            preprocessing.StandardScaler(), decomposition.PCA(3), linear_model.LogisticRegression(max_iter=500)
        ),
        {"x": iris},
        species,
    )
    yield Entry(
        "imputer_forest",
        "classifier",
        pipeline.make_pipeline(impute.SimpleImputer(), ensemble.RandomForestClassifier(20, random_state=SEED)),
        {"x": holes},
        species,
    )
    yield Entry(
        "missing_values_hist_gradient_boosting",
        "classifier",
        ensemble.HistGradientBoostingClassifier(max_iter=20, random_state=SEED),
        {"x": holes},
        species,
    )
    for name, last in {
        "table_logistic": linear_model.LogisticRegression(max_iter=500),
        "table_forest": ensemble.RandomForestClassifier(20, random_state=SEED),
        "table_gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=20, random_state=SEED),
    }.items():
        yield Entry(name, "classifier", pipeline.make_pipeline(_preparation(), last), columns, leaves)
    yield Entry(
        "table_ridge",
        "values",
        pipeline.make_pipeline(_preparation(), linear_model.Ridge()),
        columns,
        columns["charges"][:, 0].astype(np.float64) * 2,
    )
    yield Entry("table_preparation", "transformer", _preparation(), columns, None)


def _boosters() -> Iterator[Entry]:
    import lightgbm
    import xgboost

    iris, species = _shuffled(datasets.load_iris())
    cancer, malign = _shuffled(datasets.load_breast_cancer())
    data, target = _shuffled(datasets.load_diabetes())
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[species]
    columns, leaves = _table()
    few: dict[str, Any] = {"n_estimators": 20, "random_state": SEED, "n_jobs": 1}
    quiet: dict[str, Any] = {**few, "verbose": -1}
    classifiers: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
        "xgboost_binary": (xgboost.XGBClassifier(**few), cancer, malign),
        "xgboost_classes": (xgboost.XGBClassifier(**few), iris, species),
        "xgboost_forest": (xgboost.XGBRFClassifier(**few), cancer, malign),
        "lightgbm_binary": (lightgbm.LGBMClassifier(**quiet), cancer, malign),
        "lightgbm_classes": (lightgbm.LGBMClassifier(**quiet), iris, species),
        "lightgbm_texts": (lightgbm.LGBMClassifier(**quiet), iris, names),
        "lightgbm_dart": (lightgbm.LGBMClassifier(boosting_type="dart", **quiet), iris, species),
    }
    for name, (estimator, rows, classes) in classifiers.items():
        yield Entry(name, "classifier", estimator, {"x": rows}, classes)
    regressors: dict[str, Any] = {
        "xgboost_regressor": xgboost.XGBRegressor(**few),
        "xgboost_poisson": xgboost.XGBRegressor(objective="count:poisson", **few),
        "lightgbm_regressor": lightgbm.LGBMRegressor(**quiet),
        "lightgbm_poisson": lightgbm.LGBMRegressor(objective="poisson", **quiet),
    }
    for name, estimator in regressors.items():
        yield Entry(name, "values", estimator, {"x": data}, target)
    yield Entry(
        "xgboost_in_pipeline",
        "classifier",
        pipeline.make_pipeline(preprocessing.StandardScaler(), xgboost.XGBClassifier(**few)),
        {"x": cancer},
        malign,
        old_opset=True,
    )
    yield Entry(
        "lightgbm_in_pipeline",
        "classifier",
        pipeline.make_pipeline(_preparation(), lightgbm.LGBMClassifier(**quiet)),
        columns,
        leaves,
        old_opset=True,
    )
    yield Entry(
        "lightgbm_regressor_in_pipeline",
        "values",
        pipeline.make_pipeline(preprocessing.StandardScaler(), lightgbm.LGBMRegressor(**quiet)),
        {"x": data},
        target,
        old_opset=True,
    )
