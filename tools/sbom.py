#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the two programs are made of, as a CycloneDX 1.5 bill of materials on standard output.

sbom.py: after a build; each Swift package with its version, licence and address, the toolchain, and the three C libraries.
sbom.py --check: says what differs from tools/dependencies.tsv, the list that a person has read: a package that came or went,
another version, another licence. Exit 1 if anything does.
"""
import hashlib
import json
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
LIST = TOP / "tools/dependencies.tsv"
TEXTS = [
    ("Apache-2.0", "Apache License"),
    ("MIT", "Permission is hereby granted, free of charge"),
]
LIBRARIES = {
    "libsodium": ("libsodium23", "ISC"), "sqlite": ("libsqlite3-0", "blessing"),
    "libzstd": ("libzstd1", "BSD-3-Clause"),
}


def licence(folder):
    for path in sorted(folder.glob("LICENSE*")):
        text = path.read_text(errors="replace")
        for name, words in TEXTS:
            if words in text:
                return name
    return "unknown"


def packages():
    """Name, version, licence and address of each Swift package that the build resolved."""
    pins = json.loads((TOP / "Package.resolved").read_text())["pins"]
    found = []
    for pin in pins:
        address = pin["location"].removesuffix(".git")
        folder = TOP / ".build/checkouts" / address.rsplit("/", 1)[1]
        found.append((pin["identity"], pin["state"]["version"], licence(folder), address))
    return sorted(found)


def check():
    listed = {tuple(line.split("\t")) for line in LIST.read_text().splitlines() if line and not line.startswith("#")}
    resolved = {one[:3] for one in packages()}
    for name, version, terms in sorted(resolved - listed):
        print(f"sbom: {name} {version} ({terms}) is built in and not listed in {LIST.relative_to(TOP)}")
    for name, version, terms in sorted(listed - resolved):
        print(f"sbom: {name} {version} ({terms}) is listed in {LIST.relative_to(TOP)} and not built in")
    return 1 if resolved != listed else 0


def said(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def bill():
    components = []
    for name, version, terms, address in packages():
        purl = f"pkg:swift/{address.removeprefix('https://')}@{version}"
        components.append({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{"license": {"id": terms}}],
            "externalReferences": [{"type": "vcs", "url": address}]})
    for name, (package, terms) in LIBRARIES.items():
        version = said("dpkg-query", "-W", "-f", "${Version}", package)
        purl = f"pkg:deb/debian/{package}@{version}"
        components.append({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{"license": {"id": terms}}]})
    for program in ("meshd", "meshctl"):
        path = TOP / ".build/release" / program
        if path.exists():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            components.append({
                "type": "application", "bom-ref": program, "name": program,
                "hashes": [{"alg": "SHA-256", "content": digest}]})
    version = re.search(r"## (\S+)", (TOP / "CHANGELOG.md").read_text()).group(1)
    compiler = re.search(r"Swift version (\S+)", said("swift", "--version"))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "holdfast", "name": "holdfast", "version": version,
                          "licenses": [{"license": {"id": "Apache-2.0"}}]},
            "tools": {"components": [{"type": "application", "name": "swift",
                                      "version": compiler.group(1) if compiler else "unknown"}]}},
        "components": components}


if sys.argv[1:] == ["--check"]:
    sys.exit(check())
print(json.dumps(bill(), indent=1))
