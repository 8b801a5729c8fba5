"""HARP in Python: reads what `HARP_STATS` has written. The plugin itself needs none of it.

`python -m taco.cli harp top FILE` (`taco harp top`) shows it live.
"""
