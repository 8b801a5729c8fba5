"""Prints the folder and the version of an installed package, without importing the package."""

import importlib.metadata
import importlib.util
import pathlib
import sys


def main(name: str) -> int:
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        print(f"no package {name} in {sys.prefix}", file=sys.stderr)
        return 1
    versions = [
        importlib.metadata.version(dist)
        for dist in importlib.metadata.packages_distributions().get(name, [])
    ]
    print(pathlib.Path(folders[0]).resolve())
    print(versions[0] if versions else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
