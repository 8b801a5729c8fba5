"""LightCC beside its peers, over links of a known rate; see docs/lightcc_benchmarks.md.

Start here: `training` (the time of a step; `rounds` has the method), `accuracy` (what is learned),
`report` (docs' tables from both), `links` (machines made of network namespaces), `allreduce` (100
MB over them), `topk` (the selection by itself).
"""
