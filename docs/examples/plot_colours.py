"""
A photograph in sixteen colours
===============================

Pixels are rows of three features; centroids are the palette.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from kmeans_xp import kmeans

image = load_sample_image("china.jpg")
pixels = image.reshape(-1, 3)

result = kmeans(pixels, 16, random_state=0)
palette = np.rint(result.centroids).astype(np.uint8)
print(f"{len(np.unique(pixels, axis=0))} colours became {len(palette)}")

# %%
# Integer data are full of ties, pixels exactly as far from one colour as from another. They go to
# the lowest index, on every machine.

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, picture, title in zip(
    axes, (image, palette[result.labels].reshape(image.shape)), ("before", "after"), strict=True
):
    ax.imshow(picture)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()
