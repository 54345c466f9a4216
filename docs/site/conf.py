"""Sphinx's settings of the site; `build.py` calls it."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

project = "xgap_analysis"
author = "The xgap_analysis authors"
project_copyright = author
version = release = version_of("xgap-analysis")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "markup"]
templates_path = [str(HERE / "templates")]  # autosummary looks beside the pages for a relative one
root_doc = "index"
nitpick_ignore_regex = [
    ("py:.*", r"(?!xgap_analysis).*"),  # names of other packages: their sites are not read, since that needs a network
    ("py:.*", r"xgap_analysis\.(?:\w+\.)+\w*"),  # types of signatures that the reference does not list
]

nb_execution_mode = "off"  # `build.py` gives executed notebooks
nb_merge_streams = True
nb_output_stderr = "remove"  # warnings with paths of the machine that ran it; the report has them
nb_render_markdown_format = "myst"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 96
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "xgap_analysis"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "sidebar_hide_name": False,
    "light_css_variables": {"color-brand-primary": "#1f5a92", "color-brand-content": "#1f5a92"},
    "dark_css_variables": {"color-brand-primary": "#8fc1ee", "color-brand-content": "#8fc1ee"},
}
