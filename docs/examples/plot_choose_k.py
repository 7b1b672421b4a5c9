"""
How many clusters?
==================

`select_k` clusters the data into several numbers of clusters, scores each, and proposes one. What
it says is a proposal: criteria ask different questions, and some data have no clusters at all.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs

from kmeans_xp import kmeans, select_k
from kmeans_xp.plot import ClusterDisplay, ElbowDisplay
from kmeans_xp.report import cluster_report

x, _ = make_blobs(1500, centers=5, cluster_std=1.1, center_box=(-12, 12), random_state=3)

# %%
# The first criterion chooses, the others are columns of the table. The elbow is the knee of the
# inertia in log-log axes, where data without clusters give a straight line.

criteria = ["elbow", "silhouette", "davies_bouldin", "bic"]
selection = select_k(x, range(1, 13), criterion=criteria, random_state=0)
print(selection)

# %%
# The inertia always falls, so its knee counts; of the silhouette it is the peak.

ElbowDisplay.from_selection(selection, criteria=["inertia", "silhouette"])
plt.show()

# %%
# Each line of the table is a fit that can be had again: the same seed, the same bits.

result = kmeans(x, selection.k, n_init=5, random_state=0)
ClusterDisplay.from_predictions(x, result.labels, result.centroids)
plt.show()

# %%
# Even noise can be cut into any number of pieces. Then there is no knee, and `select_k` says so
# instead of making one up; the gap statistic compares with uniform data and can say 1.

noise = np.random.default_rng(0).uniform(size=(400, 2))
for criterion in ("elbow", "gap"):
    answer = select_k(noise, range(1, 9), criterion=criterion, n_references=5, random_state=0)
    print(f"{criterion}: k = {answer.k}, {answer.reason}")

# %%
# For colleagues there is a page with all of this: one HTML file with its pictures inside, for a
# phone, a dark screen and a screen reader. The command line writes the same:
# ``kmeans-xp report rows.csv -o report.html``.

report = cluster_report(x, title="Five blobs", feature_names=["east", "north"], random_state=0)
with TemporaryDirectory() as folder:
    page = Path(folder) / "report.html"
    report.save(page)
    print(f"{report.selection.k} clusters on a page of {page.stat().st_size / 1000:.0f} kB")
