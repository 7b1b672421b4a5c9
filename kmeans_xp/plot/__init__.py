"""Pictures of a clustering, in the manner of scikit-learn's Display classes.

matplotlib is imported when something is drawn. It draws NumPy arrays only, so what is drawn of
arrays of other libraries and devices is copied to the host.
"""

from kmeans_xp.plot.centroids import CentroidDisplay
from kmeans_xp.plot.clusters import ClusterDisplay
from kmeans_xp.plot.convergence import ConvergenceDisplay
from kmeans_xp.plot.elbow import ElbowDisplay
from kmeans_xp.plot.silhouette import SilhouetteDisplay

__all__ = [
    "CentroidDisplay",
    "ClusterDisplay",
    "ConvergenceDisplay",
    "ElbowDisplay",
    "SilhouetteDisplay",
]
