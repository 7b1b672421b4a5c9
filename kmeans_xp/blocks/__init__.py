"""Where the data live: each kind of place turns centroids into labels and exact partial sums."""
