"""LightCC's engine: ranks agree on what runs when, run it, and fail together.

Start at `runtime.Runtime`; docs/lightcc.md has the picture.
"""
