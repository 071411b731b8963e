#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The code's own rules, which the compiler does not hold: imports, banned calls, lengths.

Every finding is a line 'FILE:LINE: what'; any finding is exit 1.
"""
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
PURE = {
    "MeshCore": set(),
    "MeshCrypto": {"CSodium", "MeshCore"},
    "MeshTrust": {"MeshCore", "MeshCrypto"},
    "MeshReplication": {"MeshCore", "MeshCrypto", "MeshTrust"},
    "MeshRules": {"MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshContent"},
    "MeshOracle": set(),
    "MeshLink": {"CZstd", "MeshCore", "MeshCrypto", "MeshTrust"},
    "MeshDiscovery": {"MeshCore", "MeshCrypto"},
    "MeshMembership": {"MeshCore", "MeshCrypto"},
    "MeshContent": {"MeshCore", "MeshCrypto", "MeshTrust"},
    "MeshEngine": {
        "MeshCore", "MeshCrypto", "MeshTrust", "MeshReplication", "MeshLink", "MeshDiscovery",
        "MeshMembership",
    },
}
# Above the line a target may import the system; these are what it may not.
FORBIDDEN = {
    "MeshStore": {"NIOCore", "NIOPosix", "MeshEngine", "MeshLink", "MeshDiscovery", "MeshMembership", "Logging"},
    "MeshTransport": {"GRDB", "MeshStore", "MeshReplication", "MeshEngine", "MeshDiscovery", "MeshMembership"},
    "Mesh": {"ArgumentParser", "GRDB"},
    "MeshSimulator": {"NIOCore", "NIOPosix", "MeshTransport", "Foundation"},
    "MeshAPI": {"NIOCore", "GRDB", "Mesh", "MeshCore"},
    "MeshHTTP": {"GRDB", "ArgumentParser", "MeshTransport", "MeshLink"},
    "MeshClient": {"Mesh", "MeshCore", "MeshStore", "GRDB"},
    "meshd": {"GRDB", "MeshEngine", "MeshTransport"},
    "meshctl": {"GRDB", "Mesh", "MeshEngine", "MeshTransport"},
}
# Below the line: no time, no chance, no log, no concurrency. Everywhere: nothing that traps on outside data.
IMPURE = re.compile(
    r"(?:\b(?:async|await|actor|Task|Date\(|ContinuousClock|SuspendingClock|SystemRandomNumberGenerator|"
    r"print\(|DispatchQueue|Mutex|Logger)|\.random\(|\.shuffled\(|\.randomElement\()(?!\w)"
)
BANNED = re.compile(r"\btry!|\bas! |\bfatalError\(|@unchecked Sendable|\bTODO\b|\bFIXME\b|nonisolated\(unsafe\)")
FORCE = re.compile(r"[\w\)\]]!(?=[\s\.\)\],]|$)")
FUNCTION = re.compile(r"^(\s*)(?:@\w+(?:\(.*\))?\s+)*(?:[\w\(\)]+\s+)*(?:func|init|deinit)\b")
LINE_MAX, FUNCTION_MAX, FILE_MAX = 100, 70, 400

findings = []


def find(path, number, what):
    findings.append(f"{path.relative_to(TOP)}:{number}: {what}")


def code_of(line):
    """The line without strings and comments."""
    line = re.sub(r'"(?:\\.|[^"\\])*"', '""', line)
    return line.split("//")[0]


def check_imports(path, target, lines):
    for number, line in enumerate(lines, 1):
        match = re.match(r"\s*(?:@\w+ )?(?:public |package |internal )?import (?:\w+ )?(\w+)", line)
        if not match:
            continue
        name = match[1]
        if target in PURE and name not in PURE[target]:
            find(path, number, f"{target} is below the line and may not import {name}")
        if name in FORBIDDEN.get(target, ()):
            find(path, number, f"{target} may not import {name}")


def check_lengths(path, lines):
    if len(lines) > FILE_MAX:
        find(path, len(lines), f"{len(lines)} lines; at most {FILE_MAX}")
    start, indent = None, ""
    for number, line in enumerate(lines, 1):
        match = FUNCTION.match(line)
        if match and start is None:
            start, indent = number, match[1]
        elif start is not None and line.startswith(indent + "}") and len(line.rstrip()) == len(indent) + 1:
            if number - start + 1 > FUNCTION_MAX:
                find(path, start, f"a function of {number - start + 1} lines; at most {FUNCTION_MAX}")
            start = None
        elif start is not None and re.match(rf"^{indent}(?:package |public |private )?(?:func|init|var|let|struct|enum)\b", line):
            start = number if match else None


def check(path):
    lines = path.read_text().splitlines()
    relative = path.relative_to(TOP)
    if not lines or not re.match(r"// (SPDX-License-Identifier: Apache-2.0|swift-tools-version)", lines[0]):
        find(path, 1, "the licence line is missing")
    in_text = False
    for number, line in enumerate(lines, 1):
        # A sentence for a person stays in one piece, however long; code does not.
        bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', line)
        if len(bare) > LINE_MAX and not in_text and relative.parts[0] == "Sources":
            find(path, number, f"{len(line)} columns; at most {LINE_MAX}")
        in_text ^= line.count('"""') % 2 == 1
    check_lengths(path, lines)
    if relative.parts[0] != "Sources":
        return
    target = relative.parts[1]
    check_imports(path, target, lines)
    for number, line in enumerate(lines, 1):
        code = code_of(line)
        if BANNED.search(code):
            find(path, number, f"'{BANNED.search(code)[0].strip()}' is banned")
        if FORCE.search(code) and "import" not in code:
            find(path, number, "a force unwrap")
        if target in PURE and IMPURE.search(code):
            find(path, number, f"'{IMPURE.search(code)[0]}' below the line")


for path in sorted(TOP.glob("Sources/**/*.swift")) + sorted(TOP.glob("Tests/**/*.swift")):
    check(path)
for line in findings:
    print(line)
print(f"tidy: {len(findings)} findings")
sys.exit(1 if findings else 0)
