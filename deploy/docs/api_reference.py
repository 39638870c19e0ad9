"""The API reference of the site: the committed OpenAPI document, drawn by Redoc in the reader's browser, offline.

`make docs` names Redoc's file in the variable REDOC. It is in a package of the service's own environment.
"""

import json
import os
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"

PAGE = "reference/openapi.html"
SCRIPT = "reference/redoc.standalone.js"

_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self' 'unsafe-inline';
 style-src 'unsafe-inline'; img-src data:; worker-src blob:">
<title>API reference - Giro</title>
<style>body {{ margin: 0 }}</style>
<div id="reference"></div>
<script id="document" type="application/json">{document}</script>
<script src="redoc.standalone.js"></script>
<script>
const text = document.getElementById("document").textContent;
Redoc.init(JSON.parse(text), {{ disableSearch: false, hideLoading: true }}, document.getElementById("reference"));
</script>
</html>
"""


def page() -> str:
    """Return the page, with the document inside of it, so that it can be opened as a file too."""
    document = json.dumps(json.loads(DOCUMENT.read_text()), separators=(",", ":"))
    return _HTML.format(document=document.replace("</", "<\\/"))


def script() -> str:
    """Return Redoc. Raises KeyError if `make docs` did not say where it is."""
    return Path(os.environ["REDOC"]).read_text()
