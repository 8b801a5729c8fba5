"""Collectives as plain functions of a transport: rings, trees, levels, and sparse exchanges.

Start with `transport`: what a pattern asks of whatever carries its bytes. `ring`, `tree` and
`hierarchical` reduce dense tensors, `sparse` and its neighbours lists of (index, value).
"""
