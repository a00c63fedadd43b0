"""Writes what a directory of wheels consists of, as CycloneDX 1.6: `sbom.py DIRECTORY`. Scanners of faults read it.

Each wheel is a component with its digest and its licence. psycopg's wheel brings C libraries, such as OpenSSL. Each of
their files is listed with its digest, and what the wheel's own list says of them (PEP 770) is taken over.
"""

from __future__ import annotations

import hashlib
import json
import sys
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

OURS = "shithubd-worker"


def component(wheel: Path) -> dict[str, Any]:
    """A wheel, with the C libraries that it brings."""
    with ZipFile(wheel) as files:
        names = files.namelist()
        [metadata] = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(files.read(metadata).decode())
        inside = [
            each
            for name in names
            if ".dist-info/sboms/" in name and name.endswith(".cdx.json")
            for each in json.loads(files.read(name)).get("components", ())
            if each["name"].replace("_", "-") != about["Name"]  # the wheel names itself, too
        ]
        inside += [
            {"type": "file", "name": name, "hashes": digest(files.read(name))} for name in names if ".libs/lib" in name
        ]
    purl = f"pkg:pypi/{about['Name'].lower().replace('_', '-')}@{about['Version']}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": about["Name"],
        "version": about["Version"],
        "purl": purl,
        "hashes": digest(wheel.read_bytes()),
        "licenses": [licence(about)],
        **({"components": inside} if inside else {}),
    }


def digest(content: bytes) -> list[dict[str, str]]:
    """The digest of a file."""
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def licence(about: Message) -> dict[str, Any]:
    """What a wheel says: an SPDX expression, or the name that its author chose."""
    if expression := about["License-Expression"]:
        return {"expression": expression}
    named = [each.split(" :: ")[-1] for each in about.get_all("Classifier", ()) if each.startswith("License")]
    return {"license": {"name": "; ".join(named) or about["License"]}}


def bill(directory: Path) -> dict[str, Any]:
    """The whole document. The same wheels give the same text."""
    wheels = [component(path) for path in sorted(directory.glob("*.whl"))]
    [ours] = (each for each in wheels if each["name"] == OURS)
    others = [each for each in wheels if each is not ours]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours | {"type": "application"}},
        "components": others,
    }


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1])), sys.stdout, indent=1)
    print()
