"""
In a scikit-learn pipeline
==========================

The estimators keep scikit-learn's contract: change the import, keep the rest.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kmeans_xp import KMeans
from kmeans_xp.plot import ClusterDisplay

x, _ = load_iris(return_X_y=True, as_frame=True)
pipeline = make_pipeline(StandardScaler(), KMeans(3, n_init=5, random_state=0))
pipeline.set_output(transform="pandas")
print(pipeline.fit_transform(x).head())

# %%
# Features keep their names on the way; four of them are shown in two directions.

ClusterDisplay.from_estimator(pipeline[-1], pipeline[:-1].transform(x))
plt.show()

# %%

search = GridSearchCV(pipeline, {"kmeans__n_clusters": [2, 3, 4, 5]}, cv=3).fit(x)
print(search.cv_results_["mean_test_score"])
