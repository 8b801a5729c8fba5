"""The demonstration behind `taco demo`: one DeepFM, hashed buckets against a dynamic table.

The same plain Keras 3 program is trained twice on a click or rating log in time order: once with
`keras.layers.Embedding` over hashed buckets, once with `taco.tf.keras.Embedding` of the same
memory. Importing this package imports neither TensorFlow nor matplotlib; `main` does, when it runs.

Start reading at `cli.py` (the order of events), then `runner.py` (test-then-train), then
`embedding.py` (the one place where the two programs differ). See docs/demo.md.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; the entry of `taco demo` and `python -m taco.demo`.

    Args:
        argv: Arguments without the program's name; `None` takes them from `sys.argv`.

    Returns:
        Exit code: 0 done, 2 wrong usage, unreadable data or a missing library, 130 interrupted.
    """
    from taco.demo import cli

    return cli.main(argv)
