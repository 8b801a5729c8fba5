"""Horovod's API for PyTorch: `import taco.lightcc.torch as hvd`.

The names, their defaults and their meaning are those of `horovod.torch` 0.28.1
(https://horovod.readthedocs.io/en/stable/api.html).
"""

# ruff: noqa: F401, F403
from taco.lightcc.engine.errors import HorovodInternalError, HostsUpdatedInterrupt
from taco.lightcc.torch import elastic
from taco.lightcc.torch.compression import Compression
from taco.lightcc.torch.functions import (
    allgather_object,
    broadcast_object,
    broadcast_optimizer_state,
    broadcast_parameters,
)
from taco.lightcc.torch.held_back import reshard
from taco.lightcc.torch.insight import explain, observe_loss
from taco.lightcc.torch.mpi_ops import *
from taco.lightcc.torch.optimizer import DistributedOptimizer
from taco.lightcc.torch.sync_batch_norm import SyncBatchNorm
