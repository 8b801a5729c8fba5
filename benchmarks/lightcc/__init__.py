"""LightCC beside its peers, over links of a known rate; see docs/lightcc_patterns.md.

Start here: `links` (machines made of network namespaces), `allreduce` (100 MB over them).
"""
