"""scikit-learn's face of the library: estimators over the functions, no arithmetic of their own."""

from kmeans_xp.estimators.bisecting import BisectingKMeans
from kmeans_xp.estimators.kmeans import KMeans, k_means
from kmeans_xp.estimators.minibatch import MiniBatchKMeans

__all__ = ["BisectingKMeans", "KMeans", "MiniBatchKMeans", "k_means"]
