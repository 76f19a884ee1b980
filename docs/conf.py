"""How Sphinx builds these pages: ``sphinx-build -W -n -b html docs docs/_build/html``. Needs no network."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import lowprec

project = "lowprec"
author = "the lowprec authors"
copyright = author
release = version = lowprec.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "public_names",
    "command_line",
    "notebooks",
]
exclude_patterns = ["_build"]

# Docstrings
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
nitpick_ignore_regex = [  # without a network there are no inventories of others to link to
    ("py:.*", r"(abc|collections|enum|fractions|pathlib)\..*"),
    ("py:.*", r"(torch|numpy|matplotlib|pandas|hypothesis)\..*"),
    ("py:class", r"lowprec\.(convert\.Model|ops\.quantize\.Array)"),  # type variables
    ("py:class", r"lowprec\..*\._\w+"),  # private aliases
    ("py:class", r"Axes"),  # of Matplotlib, imported for types only
]

# Pages with pictures are executed, each in a kernel of its own; tests/test_docs.py runs what others show
nb_execution_mode = "force"
nb_execution_excludepatterns = ["notebooks/*"]  # shown with the outputs that are stored in them
nb_execution_raise_on_error = True
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(__file__).parent / "_build" / "hypothesis")
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # "compiling kernels once", on a first build only
suppress_warnings = ["myst-nb.lexer"]  # of cells that are not run, under -D nb_execution_mode=off
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# Looks
html_theme = "pydata_sphinx_theme"
html_title = "lowprec"
html_static_path = ["_static"]
html_css_files = ["layout.css"]
html_show_sourcelink = False
alone = ["index", "install", "quick_start", "from_qpytorch"]  # have no pages below them
html_sidebars = {page: [] for page in alone}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
