"""A communication hook for DistributedDataParallel: TopK with error feedback.

The hook decides nothing: `state` says what travels how, `exchange` carries it out in the thread of
`worker`, and `held_back` keeps what was not sent.
"""

import weakref

import torch
import torch.distributed as dist

from taco.lightcc.hooks.state import TopKState

_defaults: weakref.WeakKeyDictionary[dist.ProcessGroup, TopKState] = weakref.WeakKeyDictionary()


# DDP compares the annotations with the classes: they must not be strings.
def topk_hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Averages a bucket's gradients; of a large one, each rank sends its largest elements.

    What is not sent is added to the next step's gradients (error feedback: Stich, Cordonnier and
    Jaggi, "Sparsified SGD with memory", NeurIPS 2018). It runs while backward goes on, over DDP's
    process group: Gloo's in a thread of its own, NCCL's in a stream; `hvd.init()` is not needed.

    Example:
        >>> model = torch.nn.parallel.DistributedDataParallel(model)
        >>> model.register_comm_hook(TopKState(ratio=0.01), topk_hook)

    Args:
        state: a `TopKState`; or as torch's own hooks take it, DDP's process group or None for the
            default group: then with the default options.
        bucket: from DDP.

    Returns:
        The bucket's buffer, averaged, with the same bits on every rank. What fails comes out of
        backward as RuntimeError, at the latest after the group's timeout.

    Raises:
        TypeError: `state` is none of these.
        ValueError: gradients on a GPU, and a group that is not NCCL's; what was loaded belongs to
            another model.
    """
    if isinstance(state, TopKState):
        return state.reduce(bucket, state.process_group or _world())
    if state is not None and not isinstance(state, dist.ProcessGroup):
        raise TypeError(
            f"topk_hook needs a TopKState, a process group or None as its state, not {state!r}."
        )
    group = state or _world()
    options = _defaults.get(group)
    if options is None:
        options = _defaults[group] = TopKState()
    return options.reduce(bucket, group)


def _world() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None  # DDP has needed it
    return group
