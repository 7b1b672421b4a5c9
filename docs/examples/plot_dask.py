"""
A Dask array
============

Dask describes how rows come about and computes them chunk by chunk, here or on a cluster. The
chunks stay where they are, and the result has the bits of the whole array, however it is cut.
"""

import dask
import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from kmeans_xp import fingerprint, kmeans, stream

# %%
# The pixels of a photograph as brightness and two differences of colour, lazily: nothing is
# computed in these lines.

image = load_sample_image("flower.jpg")
pixels = da.from_array(image.reshape(-1, 3), chunks=(50_000, 3)).astype("float32")
red, green, blue = pixels.T
features = da.stack([(red + green + blue) / 3, red - green, blue - green], axis=1)
features = features.rechunk((50_000, 3))
print(features)

# %%
# Dask's own schedulers and settings apply; with a client of ``distributed`` it is the workers that
# compute. Labels are a Dask array again.

with dask.config.set(scheduler="threads"):
    result = kmeans(features, 6, random_state=0)
print(result.labels)

# %%
# Other chunks, the computed array, or one chunk after the other where they do not all fit in
# memory: the same bits.

fits = {
    "six chunks": result,
    "seventeen chunks": kmeans(features.rechunk((17_000, 3)), 6, random_state=0),
    "in memory": kmeans(features.compute(), 6, random_state=0),
    "as a stream": kmeans(stream(features), 6, random_state=0),
}
for name, fit in fits.items():
    print(f"{fingerprint(fit)}  {name}")
assert len({fingerprint(fit) for fit in fits.values()}) == 1

# %%
# Each cluster in the mean colour of its pixels.

colours, labels = image.reshape(-1, 3), result.labels.compute()
palette = np.stack([colours[labels == k].mean(axis=0) for k in range(6)])
painted = palette[labels].reshape(image.shape).astype(np.uint8)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, picture, title in zip(axes, (image, painted), ("before", "after"), strict=True):
    ax.imshow(picture)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
