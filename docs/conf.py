"""The site's settings: `make docs`.

The repository's folder is Sphinx's source folder, so that the pages' relative links, which GitHub
follows as they stand, mean the same on the site. Pages that are made from the program itself
(verbs, keys, API) and the executed examples lie in docs/generated/, which git does not hold.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from lcm_scale import __version__  # noqa: E402

project = "lcm-scale"
author = "the authors of lcm-scale"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "made_pages",
]
root_doc = "docs/index"
SOURCES = {
    *("docs", "examples", "recipes", "shards"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
}
exclude_patterns = [
    *(path.name for path in ROOT.iterdir() if path.name not in SOURCES),
    *("docs/_build", "docs/_ext", "docs/examples", "shards/*/**", "**/.*"),
    *("docs/generated/gallery/*.py", "docs/generated/gallery/*.ipynb"),
]

myst_heading_anchors = 4  # as GitHub makes them
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings say shapes and units, which types do not
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "docs/examples",
    "gallery_dirs": "docs/generated/gallery",
    "filename_pattern": "/",  # every example is executed
    "abort_on_example_error": True,
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"lcm-scale {__version__}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "logo": {"text": "lcm-scale"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["sphinx-version"],
    "footer_end": [],
}
