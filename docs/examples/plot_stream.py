"""
A file larger than memory
=========================

`stream` reads a file block by block, and `kmeans` gives the bits of the array in memory. Once the
centroids settle, blocks in which no label can change are not even read.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

from kmeans_xp import fingerprint, kmeans, predict, stream

# %%
# What a sensor wrote in the course of time: now here, now there. (This file would fit in memory, so
# that both ways can be compared; the calls are the same for one of a terabyte.)

rng = np.random.default_rng(0)
places = rng.uniform(-25, 25, size=(40, 4))
visits = rng.integers(0, 40, size=100)
x = np.concatenate([places[i] + rng.standard_normal((2000, 4)) for i in visits])

folder = TemporaryDirectory()
path = Path(folder.name) / "rows.npy"
np.save(path, x.astype(np.float32))

# %%
# A callback sees every iteration; here it notes what was read from the file until then.

rows = stream(path, block_rows=2000)
print(rows)
read = []
result = kmeans(rows, 40, random_state=0, callback=lambda state: read.append(rows.bytes_read))
print(f"{result.n_iter} iterations, {rows.bytes_skipped / 1e6:.0f} MB left unread")

# %%
# The same in memory, and labels of the rows of a file.

assert fingerprint(result) == fingerprint(kmeans(np.load(path), 40, random_state=0))
labels = predict(stream(path), result.centroids)
assert np.array_equal(labels, result.labels)

# %%

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.bar(range(2, len(read) + 1), np.diff(read) / 1e6)
ax.axhline(path.stat().st_size / 1e6, color="black", linewidth=0.8, linestyle="--")
ax.set(xlabel="iteration", ylabel="MB read (dashed: the file)")
plt.show()
folder.cleanup()
