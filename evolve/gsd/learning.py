"""Train on synthetic, test on real: whether a synthetic table teaches what the real one does.

**Not private**, as everything that is computed from the real data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from evolve.gsd.columns import Codes, Column
from evolve.gsd.evaluate import SEED
from evolve.gsd.schema import Schema
from zoo.errors import InputError
from zoo.extras import needed

Array = np.ndarray[Any, np.dtype[np.float64]]

FEW, MANY = 20, 50  # labels of a column that is chosen for a target, and of any target
_BINNED = 255  # codes of a category that gradient boosting takes as such


@dataclass(frozen=True)
class Score:
    """How well one model, trained on one table, predicts the real test rows.

    ``second`` is the area under the ROC curve for two labels, macro F1 for more; NaN where the test
    rows have only one.
    """

    model: str
    trained_on: Literal["real", "synthetic"]
    accuracy: float
    second: float


@dataclass(frozen=True)
class Learning:
    """Scores of the models, and what they were trained and tested on.

    ``majority`` is the accuracy of always saying the commonest label of the real training rows.
    """

    target: str
    measure: Literal["auc", "macro_f1"]
    real_rows: int
    synthetic_rows: int
    test_rows: int
    held_out: bool
    majority: float
    scores: tuple[Score, ...]


def train_on_synthetic(
    real: Codes,
    synthetic: Codes,
    schema: Schema,
    target: str | None = None,
    test: Codes | None = None,
) -> Learning:
    """Train models on the real and on the synthetic table; test both on real rows.

    Gradient boosting and logistic regression, from all other columns. Rows whose label is the null
    are left out. Without ``test``, a third of the real rows are for testing, always the same ones,
    and the real models learn from the rest. That is the usual comparison, and an optimistic one:
    the synthetic table was made from all of the real rows, those for testing included.

    Parameters
    ----------
    real, synthetic : int array (N, d), (N', d)
    schema : Schema
    target : str, optional
        Category to predict; by default that of :func:`target_column`.
    test : int array (M, d), optional
        Real rows that the synthetic table was not made from; then all of ``real`` is for training.

    Raises
    ------
    InputError
        If scikit-learn is missing, no column can be the target, or the rows have too few labels.
    """
    library()
    column = target_column(schema, target)
    at = schema.names.index(column.name)
    real, synthetic = (table[table[:, at] < column.bins] for table in (real, synthetic))
    if test is None:
        order = np.random.Generator(np.random.Philox(key=SEED)).permutation(len(real))
        train, tested = real[order[len(real) // 3 :]], real[order[: len(real) // 3]]
    else:
        train, tested = real, test[test[:, at] < column.bins]
    if not len(synthetic) or not len(tested):
        which = "the synthetic table has" if len(tested) else "there are"
        raise InputError(f"{which} no rows with a label of {column.name!r} to learn from or test")
    if len(np.unique(train[:, at])) < 2:
        raise InputError(f"column {column.name!r} has only one label in the real rows to train on")
    return Learning(
        target=column.name,
        measure="auc" if column.bins == 2 else "macro_f1",
        real_rows=len(train),
        synthetic_rows=len(synthetic),
        test_rows=len(tested),
        held_out=test is not None,
        majority=float(np.mean(tested[:, at] == np.bincount(train[:, at]).argmax())),
        scores=_scores(train, synthetic, tested, schema.columns, at),
    )


def target_column(schema: Schema, target: str | None = None) -> Column:
    """Category to predict: that of a name, or else the last one of 2 to 20 labels.

    Raises
    ------
    InputError
        If there is none, it has not 2 to 50 labels, or there is nothing to predict it from.
    """
    if len(schema.columns) < 2:
        raise InputError("learning needs a column besides the target")
    if target is None:
        for column in reversed(schema.columns):
            if column.kind == "category" and 2 <= column.bins <= FEW:
                return column
        raise InputError(f"no column is a category of 2 to {FEW} labels, to be the target")
    column = schema.column(target)
    if column.kind == "category" and 2 <= column.bins <= MANY:
        return column
    has = f"has {column.bins:,} label" + "s" * (column.bins != 1)
    raise InputError(
        f"target must be a category of 2 to {MANY} labels; {target!r} "
        + (has if column.kind == "category" else f"is of {column.kind} numbers")
    )


def library() -> Any:
    """Return scikit-learn.

    Raises
    ------
    InputError
        If it is not installed.
    """
    what = "learning from the tables needs scikit-learn"
    return needed("sklearn", what, "evaluate", "--no-learning")


def _scores(
    real: Codes, synthetic: Codes, tested: Codes, columns: Sequence[Column], at: int
) -> tuple[Score, ...]:
    from sklearn.dummy import DummyClassifier

    others = [column for j, column in enumerate(columns) if j != at]
    x, y = _features(tested, columns, at), tested[:, at]
    tables: dict[Literal["real", "synthetic"], Codes] = {"real": real, "synthetic": synthetic}
    scores = []
    for name, model in _models(others).items():
        for table, codes in tables.items():
            labels = codes[:, at]
            fitted = model if len(np.unique(labels)) > 1 else DummyClassifier()
            # OpenMP's threads wait for each other: on a busy machine a second one can cost 40 times
            with threadpool_limits(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as that a fit takes more steps
                fitted.fit(_features(codes, columns, at), labels)
                scores.append(Score(name, table, *_measured(fitted, x, y, columns[at].bins)))
    return tuple(scores)


def _measured(fitted: Any, x: Array, y: Codes, labels: int) -> tuple[float, float]:
    """Accuracy, and the second measure."""
    from sklearn.metrics import f1_score, roc_auc_score

    said = fitted.predict(x)
    accuracy = float(np.mean(said == y))
    present = np.unique(y)
    if labels > 2:
        return accuracy, float(f1_score(y, said, labels=present, average="macro"))
    if len(present) < 2:
        return accuracy, math.nan
    # a model that has met one label only has no second column, and no opinion
    likely = fitted.predict_proba(x)[:, -1] if len(fitted.classes_) > 1 else np.zeros(len(y))
    return accuracy, float(roc_auc_score(y, likely))


def _features(codes: Codes, columns: Sequence[Column], at: int) -> Array:
    """Codes of the other columns; NaN for nulls of numbers."""
    x = codes.astype(np.float64)
    for j, column in enumerate(columns):
        if column.ordered:
            x[codes[:, j] == column.bins, j] = math.nan
    return np.delete(x, at, axis=1)


def _models(columns: Sequence[Column]) -> dict[str, Any]:
    """Models for features of these columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    ordered = [column.ordered for column in columns]
    numbers = make_pipeline(
        SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    prepared = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), ~np.array(ordered)),
            ("numbers", numbers, np.array(ordered)),
        ]
    )
    binned = [not column.ordered and column.size <= _BINNED for column in columns]
    boosting = HistGradientBoostingClassifier(
        categorical_features=binned,
        early_stopping=False,  # it sets rows aside by label, and fails where one is rare
        random_state=SEED,
    )
    return {
        # it takes NaN, but no column of nothing else
        "gradient boosting": make_pipeline(
            SimpleImputer(strategy="constant", fill_value=-1.0, keep_empty_features=True), boosting
        ),
        "logistic regression": make_pipeline(
            prepared, LogisticRegression(max_iter=300, random_state=SEED)
        ),
    }
