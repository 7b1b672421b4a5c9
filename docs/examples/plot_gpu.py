"""
The same fit on a GPU
=====================

``device="cuda"`` computes a NumPy array on the GPU and gives NumPy back. Arrays of CuPy, torch or
JAX that lie on a GPU are clustered there and need no switch. The bits are those of the CPU.
"""

import os

import matplotlib.pyplot as plt
from sklearn.datasets import make_blobs

from kmeans_xp import fingerprint, kmeans
from kmeans_xp.plot import ClusterDisplay

x, _ = make_blobs(5000, centers=7, cluster_std=1.6, random_state=5)

# %%
# A program for machines with and without a GPU asks CuPy. (``device="cuda"`` where there is none is
# an error that says what to install.)


def best_device():
    """Where to compute: on the GPU if there is one."""
    try:
        import cupy
    except ImportError:
        return None
    return "cuda" if cupy.cuda.is_available() else None


device = best_device()
result = kmeans(x, 7, device=device, random_state=0)
print(f"{fingerprint(result)}  on {'the GPU' if device else 'the CPU, as no GPU was found'}")

# %%
# The backend written in the array API alone serves every library that has no kernels of its own, on
# any device. It is slower and returns the same bits, so it can check a GPU that you do not trust.

os.environ["KMEANS_XP_BACKEND"] = "generic"
plain = kmeans(x, 7, random_state=0)
del os.environ["KMEANS_XP_BACKEND"]
print(f"{fingerprint(plain)}  in the array API alone")
assert fingerprint(plain) == fingerprint(result)

# %%
# Displays take arrays of any device.

ClusterDisplay.from_predictions(x, result.labels, result.centroids)
plt.show()
