"""
Data that arrive in pieces
==========================

`MiniBatchKMeans` learns from batches as they come. Every update is exact, so the same batches give
the same centroids, bit for bit, wherever and whenever they are learned.
"""

import matplotlib.pyplot as plt
import numpy as np

from kmeans_xp import MiniBatchKMeans
from kmeans_xp.plot import ClusterDisplay

rng = np.random.default_rng(0)
truth = rng.uniform(-8, 8, size=(8, 2))


def batches(count, size=500):
    """What a queue or a file would deliver."""
    for _ in range(count):
        yield truth[rng.integers(0, 8, size=size)] + rng.standard_normal((size, 2))


model = MiniBatchKMeans(8, random_state=0)
scores = []
test = next(batches(1, 4000))
for batch in batches(60):
    model.partial_fit(batch)
    scores.append(-model.score(test) / len(test))

# %%
# The mean squared distance of rows the model has not seen, after every batch.

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(scores)
ax.set(xlabel="batches", ylabel="mean squared distance")
plt.show()

# %%

ClusterDisplay.from_estimator(model, test)
plt.show()
