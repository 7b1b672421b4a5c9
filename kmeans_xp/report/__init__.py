"""One page about a clustering that can be sent to a colleague: HTML with its pictures inside."""

from kmeans_xp.report.build import Report, cluster_report

__all__ = ["Report", "cluster_report"]
