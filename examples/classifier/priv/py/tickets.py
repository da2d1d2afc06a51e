"""What a ticket is about, by scikit-learn. Nothing here knows of Elixir."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def train(examples):
    """A model that has learned from pairs of a label and a text. Its `predict` takes a list of texts."""
    labels, texts = zip(*examples)
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0)).fit(texts, labels)
