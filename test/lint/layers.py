#!/usr/bin/python3
"""The layer check: base <- wire <- pg <- host <- core <- app; a file includes its own layer and lower ones.

Modules (projections/) include the public header and standard headers only. Prints each violation; exit 1 where there is one.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ["base", "wire", "pg", "host", "core", "app"]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
PUBLIC = {"pgprojector.h", "sql.h", "template.h"}
IO = re.compile(r"^(libpq-fe|uv|sys/socket|netdb|poll|sys/epoll)(\.h|$)")


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1] == '"', match[2]


def engine_faults(path, layer):
    for number, quoted, name in includes(path):
        above = name.split("/")[0]
        if quoted and name in PUBLIC:
            continue
        if quoted and above not in LAYERS:
            yield number, f'"{name}" is not of the form LAYER/NAME.h'
        elif quoted and LAYERS.index(above) > LAYERS.index(layer):
            yield number, f'"{name}" is of a higher layer than {layer}'
        elif not quoted and layer in ("base", "wire") and IO.match(name):
            yield number, f"<{name}>: {layer} does no I/O"


def module_faults(path):
    for number, quoted, name in includes(path):
        local = (path.parent / name).exists()
        if quoted and name != "pgprojector.h" and not local:
            yield number, f'"{name}": a module sees pgprojector.h only'


def main():
    faults = checked = 0
    for path in sorted((ROOT / "engine").glob("*/*.[ch]")) + sorted((ROOT / "projections").glob("*/*.[ch]")):
        layer = path.parent.name
        if layer == "include":
            continue
        checked += 1
        found = engine_faults(path, layer) if layer in LAYERS and path.parts[-3] == "engine" else module_faults(path)
        for number, fault in found:
            faults += 1
            print(f"{path.relative_to(ROOT)}:{number}: {fault}")
    print(f"layers: {checked} files, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
