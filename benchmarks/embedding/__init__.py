"""TACO's dynamic embeddings beside their peers; see docs/embedding_benchmarks.md.

Start here: `__main__.py` (the command line), `cases.py` (what is measured), `driver.py` (how
contestants take turns), `workloads.py` (what exactly is timed), `claims.py` (what must be
reached). Modules that a worker loads (`worker`, `workloads`, `adapters`, `keys`, `memory`, `cases`)
need NumPy only, for a peer may live in another environment with another TensorFlow.
"""
