"""
The same bits everywhere
========================

One seed, four array libraries, other memory layouts, other numbers of threads: one result.
"""

import array_api_strict
import matplotlib.pyplot as plt
import numpy as np
import torch

from kmeans_xp import fingerprint, kmeans

x = np.random.default_rng(0).standard_normal((20_000, 16), dtype=np.float32)

fits = {
    "NumPy": kmeans(x, 32, random_state=0),
    "NumPy, columns first": kmeans(np.asfortranarray(x), 32, random_state=0),
    "torch": kmeans(torch.asarray(x), 32, random_state=0),
    "array-api-strict": kmeans(array_api_strict.asarray(x), 32, random_state=0),
    "NumPy, pruned": kmeans(x, 32, random_state=0, algorithm="hamerly"),
}
for name, result in fits.items():
    print(f"{fingerprint(result)}  {name}")
assert len({fingerprint(result) for result in fits.values()}) == 1

# %%
# The sums behind the centroids are exact, so even the order of the rows says nothing: the same
# start on shuffled rows ends with the same centroids. Ordinary floating-point sums do not.

order = np.random.default_rng(1).permutation(len(x))
start = x[:32].copy()
one = kmeans(x, 32, init=start)
two = kmeans(x[order], 32, init=start)
assert one.centroids.tobytes() == two.centroids.tobytes()

# %%
# The mean of one feature in 300 orders: ordinary sums, and the centroid of a single cluster.

rng = np.random.default_rng(2)
features = x[:, :2]
plain = np.asarray([rng.permutation(features).mean(axis=0)[0] for _ in range(300)])
exact = kmeans(features, 1).centroids[0, 0]

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.hist((plain - exact) / np.spacing(exact), bins=40, color="#999999", label="ordinary sums")
ax.axvline(0, color="#0b6e99", linewidth=3, label="the centroid, always")
ax.set(xlabel="away from the centroid, in steps of float32", ylabel="orders")
ax.legend(frameon=False)
plt.show()
