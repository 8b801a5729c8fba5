"""SLURM's compact spellings of lists, as its environment variables hold them.

The syntax: https://slurm.schedmd.com/srun.html (SLURM_TASKS_PER_NODE, SLURM_JOB_NODELIST).
"""

import re

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def tasks_per_node(text: str) -> list[int]:
    """Reads a list of counts.

    >>> tasks_per_node("2(x3),1")
    [2, 2, 2, 1]

    Raises:
        ValueError: this is no such list.
    """
    counts: list[int] = []
    for part in text.split(","):
        found = _COUNT.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"SLURM_TASKS_PER_NODE={text!r} is not like 2(x3),1.")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def first_host(text: str) -> str:
    """The first host of a list.

    >>> first_host("gpu[003-006,9]-ib,login1")
    'gpu003-ib'

    Raises:
        ValueError: this is no such list.
    """
    host, depth, start = "", False, 0
    for index, letter in enumerate(text):
        if letter == "[" and not depth:
            depth, start = True, index + 1
        elif letter == "]" and depth:
            depth = False
            host += re.split("[-,]", text[start:index])[0]
        elif letter == "," and not depth:
            break
        elif not depth:
            host += letter
    if not host or depth or not re.fullmatch(r"[\w.-]+", host):
        raise ValueError(f"SLURM_JOB_NODELIST={text!r} is not like host[1-4,7],other.")
    return host
