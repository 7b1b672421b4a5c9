"""
A palette for every tile
========================

Hundreds of small problems in one call: each 32 by 32 tile of a photograph gets four colours of its
own. Finished problems cost nothing more, and each has the bits of its own single run.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from kmeans_xp import kmeans

image = load_sample_image("flower.jpg")
size = 32
height, width = (side // size * size for side in image.shape[:2])
tiles = image[:height, :width].reshape(height // size, size, width // size, size, 3)
tiles = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, size * size, 3).astype(np.float32)

result = kmeans(tiles, 4, random_state=0)
print(f"{len(result)} problems, {result.n_iter.min()} to {result.n_iter.max()} iterations")

# %%
# Put the tiles together again, each in its own colours.

coloured = np.take_along_axis(result.centroids, result.labels[:, :, None], axis=1)
coloured = coloured.reshape(height // size, width // size, size, size, 3)
coloured = coloured.transpose(0, 2, 1, 3, 4).reshape(height, width, 3).astype(np.uint8)

figure, ax = plt.subplots(figsize=(7, 4.7), layout="constrained")
ax.imshow(coloured)
ax.set(xticks=[], yticks=[])
plt.show()
