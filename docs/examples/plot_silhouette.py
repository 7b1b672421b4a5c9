"""
Are these clusters any good?
============================

The silhouette of a row compares the mean distance to its own cluster with that to the nearest other
one: near 1 it lies well, near 0 between two clusters, below 0 in the wrong one.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs

from kmeans_xp import kmeans
from kmeans_xp.metrics import silhouette_score
from kmeans_xp.plot import SilhouetteDisplay

x, _ = make_blobs(2000, centers=4, cluster_std=1.2, random_state=1)

# %%
# Four clusters, which is what the data have, and six.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for ax, n_clusters in zip(axes, (4, 6), strict=True):
    labels = kmeans(x, n_clusters, n_init=5, random_state=0).labels
    SilhouetteDisplay.from_predictions(x, labels, ax=ax)
    print(f"{n_clusters} clusters: mean silhouette {silhouette_score(x, labels):.3f}")
plt.show()

# %%
# The scores need no N by N matrix; `sample_size` looks at some rows only, the same on every
# machine for one `random_state`.

print(f"{silhouette_score(x, labels, sample_size=500, random_state=0):.3f} from 500 rows")
