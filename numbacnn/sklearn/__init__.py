"""Convolutional networks as scikit-learn estimators. They need the extra ``sklearn``.

The weight of a sample counts its copies: k equal samples, or one of weight k, train the same network bit for bit, in
whatever order the samples are given.
"""

from numbacnn.errors import NumbacnnError

try:
    from numbacnn.sklearn.classifier import CNNClassifier
    from numbacnn.sklearn.regressor import CNNRegressor
except ImportError:
    raise NumbacnnError("numbacnn.sklearn needs scikit-learn 1.8 or newer: pip install 'numbacnn[sklearn]'") from None

__all__ = ["CNNClassifier", "CNNRegressor"]
