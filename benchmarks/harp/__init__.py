"""HARP beside TCP, over a link between two network namespaces: `python -m benchmarks.harp`."""
