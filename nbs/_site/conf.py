"""Sphinx settings of the documentation site; `make site` runs them through build.py."""
import sys
from configparser import ConfigParser
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parents[1]
sys.path.insert(0, str(here))
import api

settings = ConfigParser(delimiters=['='])
settings.read(root/'settings.ini', encoding='utf-8')
settings = settings['DEFAULT']

project = html_title = settings['lib_name']
author, copyright, version = settings['author'], settings['copyright'], settings['version']
extensions = ['myst_nb', 'sphinx_design', 'sphinx.ext.viewcode', 'sphinx.ext.mathjax']
root_doc = 'index'
exclude_patterns = ['jupyter_execute', '_notebooks']
language = 'en'
smartquotes = False                     # 'auto' in a docstring is code

# notebooks and Markdown
nb_execution_mode = 'off'               # outputs are those that the tests of the notebooks hold
nb_render_markdown_format = 'myst'
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'fieldlist', 'attrs_inline']
myst_heading_anchors = 4
myst_dmath_double_inline = True
suppress_warnings = ['myst.header']     # a chapter may go from ## to #### and back

# offline copies of MathJax and of the widgets, where build.py found npm; otherwise the defaults, on a CDN
static = Path(here.parents[1]/'_proc'/'site'/'_static')
if (static/'mathjax').is_dir(): mathjax_path = 'mathjax/tex-chtml.js'
else: mathjax_path = 'https://cdn.jsdelivr.net/npm/mathjax@3.2.2/es5/tex-chtml.js'
mathjax3_config = dict(options=dict(enableMenu=False), chtml=dict(mtextInheritFont=True))
if (static/'widgets').is_dir():
    nb_ipywidgets_js = {'widgets/require.js': {}, 'widgets/embed-amd.js': {'data-jupyter-widgets-cdn-only': ''}}

# reference pages
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = 'hide'
viewcode_follow_imported_members = False

# looks
html_theme = 'furo'
html_static_path = [str(static)]
html_css_files = ['site.css']
html_favicon = str(static/'favicon.svg')
html_show_sourcelink = html_copy_source = False
html_show_sphinx = False
templates_path = []
pygments_style, pygments_dark_style = 'friendly', 'monokai'
html_theme_options = dict(
    light_css_variables={'color-brand-primary': '#a63a0c', 'color-brand-content': '#1f5f86', 'color-api-name': '#a63a0c', 'color-api-pre-name': '#5c5c5c'},
    dark_css_variables={'color-brand-primary': '#f08a5d', 'color-brand-content': '#7db8dc', 'color-api-name': '#f08a5d', 'color-api-pre-name': '#a8a8a8'},
    navigation_with_keys=False)         # the arrow keys move sliders

def setup(app):
    library = api.read_library(root, settings['lib_path'])
    app.connect('viewcode-find-source', lambda app, name: api.tags(library[name]) if name in library else None)
