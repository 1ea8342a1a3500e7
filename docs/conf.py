"""Sphinx configuration; `make docs` builds with warnings as errors and needs no network."""

from importlib.metadata import version as installed_version
from typing import Any

# the gallery resolves names in the examples' code, and this one only exists once enabled
from sklearn.experimental import enable_iterative_imputer  # noqa: F401

project = "sklearn_qavi"
author = "The sklearn_qavi developers"
copyright = f"2026, {author}"
release = version = installed_version("sklearn-qavi")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"  # single backticks in docstrings quote code, as in scikit-learn

SOURCE = "https://github.com/sklearn-qavi/sklearn-qavi/blob/main"
extlinks = {  # what is kept beside the library and not in these pages
    "repository": (f"{SOURCE}/%s", "%s"),
    "results": (f"{SOURCE}/benchmarks/results/%s.md", "%s"),
}

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn_qavi {release}"
html_static_path = ["_static"]
html_theme_options = {
    "github_url": "https://github.com/sklearn-qavi/sklearn-qavi",
    "navigation_with_keys": False,
    # what is made has no source to edit
    "secondary_sidebar_items": {
        "*": ["page-toc", "edit-this-page"],
        "user_guide/*": ["page-toc", "edit-this-page"],
        "auto_examples/*/*": ["page-toc", "sg_download_links"],
        "generated/*": ["page-toc"],
    },
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "use_edit_page_button": True,
    "show_prev_next": False,
}
html_sidebars = {page: [] for page in ("choosing", "development", "how_to")}
html_context = {
    "github_user": "sklearn-qavi",
    "github_repo": "sklearn-qavi",
    "github_version": "main",
    "doc_path": "docs",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what is copied can be run
copybutton_prompt_is_regexp = True

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's type lines say more: shapes, units, defaults
numpydoc_show_class_members = False  # the class template lists them

sphinx_gallery_conf = {
    "parallel": 2,  # scripts at one time, each on the one thread that make gives it
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[\\/]plot_",
    "ignore_pattern": r"(^|[\\/])(?!plot_)[^\\/]*\.py$",  # a script that is no page
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
    "plot_gallery": True,
    "remove_config_comments": True,
    "ignore_repr_types": r"sklearn_qavi\.plotting|matplotlib",  # a display is its picture
}


def skip_foreign_members(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a class inherits from scikit-learn or torch; their own pages document it."""
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", None) or obj
    module = getattr(function, "__module__", None) or ""
    if what == "class" and module.split(".")[0] in {"sklearn", "torch", "skorch"}:
        return True
    return None


def setup(app: Any) -> None:
    """Register the hook."""
    app.connect("autodoc-skip-member", skip_foreign_members)
