"""
Handwritten digits
==================

Ten clusters of 1,797 images of 8 by 8 pixels, without a look at what they show.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from kmeans_xp import History, kmeans
from kmeans_xp.plot import CentroidDisplay, ClusterDisplay, ConvergenceDisplay

digits = load_digits()
history = History()
result = kmeans(digits.data, 10, n_init=5, random_state=0, callback=history)
print(f"inertia {result.inertia:.0f} after {result.n_iter} iterations")

# %%
# The centroids are images themselves: the mean of what is in each cluster.

CentroidDisplay.from_predictions(result.centroids, result.labels, shape=(8, 8))
plt.show()

# %%
# In 64 features nobody sees anything; two principal components show most of it.

ClusterDisplay.from_predictions(digits.data, result.labels, result.centroids)
plt.show()

# %%
# How the five starts went. Every inertia here is exact, so the curves never rise.

ConvergenceDisplay.from_history(history)
plt.show()

# %%
# How well do clusters and digits agree? Each cluster speaks for its most frequent digit.

guesses = np.empty_like(digits.target)
for k in range(10):
    rows = result.labels == k
    guesses[rows] = np.bincount(digits.target[rows]).argmax()
print(f"{(guesses == digits.target).mean():.1%} of the images lie with their own kind")
