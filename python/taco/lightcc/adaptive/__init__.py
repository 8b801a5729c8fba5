"""How each allreduce is carried out: modes, what they cost, who chooses, and what guards the loss.

Start at `hub.py`.
"""
