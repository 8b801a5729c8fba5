"""Lines of logs that tests put together."""


def criteo_line(label: object = 1, integer: object = 5, category: object = "68fd1e64") -> str:
    """Returns a Criteo line with one value repeated in all columns of a kind."""
    return "\t".join([str(label)] + [str(integer)] * 13 + [str(category)] * 26)
