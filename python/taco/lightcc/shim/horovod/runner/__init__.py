"""`horovod.runner.run`, the same as `horovod.run`."""

from taco.lightcc.run.function import run

__all__ = ["run"]
