"""
The same bits everywhere
========================

One seed, four array libraries, other memory layouts, other numbers of threads: one result.
"""

import array_api_strict
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
print("plain mean, in two orders:", x.mean(0)[0], x[order].mean(0)[0])
