"""The manual, in Sphinx: `bash ci/docs.sh` builds it."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # our directives; the benchmarks they read

import kmeans_xp  # noqa: E402 - the path comes first

project = "kmeans_xp"
author = "kmeans_xp contributors"
project_copyright = author
version = release = kmeans_xp.__version__

extensions = [
    "benchmark_tables",
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
# The gallery's notebooks are downloads; its pages are made from the scripts.
exclude_patterns = ["_build", "examples", "gallery/*.ipynb"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
root_doc = "index"

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it better
numpydoc_show_class_members = False
myst_heading_anchors = 3

# The tour is a notebook; it runs when the manual is built.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

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
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_sidebars = {"*": []}  # pages of one level have no section to navigate
html_theme_options = {
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
}

# Links to files of the repository that are no pages of the manual.
suppress_warnings = ["myst.xref_missing", "config.cache"]
