"""
A Dask array
============

Dask describes how rows come about and computes them chunk by chunk; the clustering takes the chunks
as they come and has the bits of the whole array, however it is cut.
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
# Dask's own schedulers and settings apply.

with dask.config.set(scheduler="threads"):
    result = kmeans(stream(features), 6, random_state=0)
print(f"{fingerprint(result)}  {features.numblocks[0]} chunks")

# %%
# Other chunks, or the computed array: the same bits.

other = kmeans(stream(features.rechunk((17_000, 3))), 6, random_state=0)
whole = kmeans(features.compute(), 6, random_state=0)
print(f"{fingerprint(other)}  other chunks\n{fingerprint(whole)}  in memory")
assert fingerprint(result) == fingerprint(other) == fingerprint(whole)

# %%
# Each cluster in the mean colour of its pixels.

colours = image.reshape(-1, 3)
palette = np.stack([colours[result.labels == k].mean(axis=0) for k in range(6)])
painted = palette[result.labels].reshape(image.shape).astype(np.uint8)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, picture, title in zip(axes, (image, painted), ("before", "after"), strict=True):
    ax.imshow(picture)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
