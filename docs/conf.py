"""The manual, in Sphinx: `bash ci/docs.sh` builds it."""

from __future__ import annotations

import kmeans_xp

project = "kmeans_xp"
author = "kmeans_xp contributors"
project_copyright = author
version = release = kmeans_xp.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it better
numpydoc_show_class_members = False
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "show_memory": False,
    "min_reported_time": 1,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "kmeans_xp"
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2, "navbar_align": "left", "footer_start": ["copyright"]}

# Links to files of the repository that are no pages of the manual.
suppress_warnings = ["myst.xref_missing", "config.cache"]
