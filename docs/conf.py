"""Sphinx configuration: pages in Markdown, the API reference from the docstrings."""

from importlib.metadata import version as version_of

project = "tfser"
author = "the tfser authors"
project_copyright = "the tfser authors"
version = release = version_of("tfser")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"tfser {version}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
