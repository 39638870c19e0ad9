"""The OpenAPI document as a file: `make openapi` writes docs/reference/openapi.json.

The file shows reviewers what a change does to the API, and tests.contract.breaking compares it with earlier ones.
"""

import json
from pathlib import Path
from typing import Any

import core
from api.app import create_app
from core.settings import load_settings

HOME = Path(core.__file__).parent.parent
NAME = "docs/reference/openapi.json"
PAGE = HOME / NAME


def text(document: Any) -> str:
    """Write the document for readers, in its own order, which no setting changes."""
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(create_app(load_settings(_env_file=None)).openapi()))
