"""A scikit-learn model of the iris data set. Nothing here knows of Elixir."""

import functools
import pickle

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split


def train(path):
    """Trains on three quarters of the flowers, saves the model, and returns what the others are for testing."""
    iris = load_iris()
    x_train, x_test, y_train, y_test = train_test_split(
        iris.data, iris.target, test_size=0.25, random_state=7, stratify=iris.target
    )
    model = LogisticRegression(max_iter=1000).fit(x_train, y_train)
    with open(path, "wb") as file:
        pickle.dump((model, [str(name) for name in iris.target_names]), file)
    return {
        "features": iris.feature_names,
        "accuracy": model.score(x_test, y_test),
        "flowers": x_test,
        "species": [str(iris.target_names[index]) for index in y_test],
    }


@functools.cache
def _load(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def predict(path, flower):
    """The species of one flower, and how sure the model is."""
    model, names = _load(path)
    [shares] = model.predict_proba([flower])
    best = shares.argmax()
    return names[best], shares[best]
