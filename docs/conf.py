"""Sphinx: `make docs` builds these pages into site/, warnings are errors."""
import os
import sys

sys.path.insert(0, os.path.abspath(".."))  # so that the pages describe this checkout and no other

project = "happo_gpu"
author = "the authors of happo_gpu"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]
myst_heading_anchors = 3  # [text](page.md#heading) is checked, too
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
add_module_names = False
highlight_language = "text"
html_theme = "furo"
html_title = "happo_gpu"
html_copy_source = html_show_copyright = False
html_static_path, html_css_files = ["wide.css"], ["wide.css"]
