"""Elastic training, as `horovod.torch.elastic`: ranks may come, go and fail while it goes on."""

from taco.lightcc.torch.elastic.run import run, run_fn
from taco.lightcc.torch.elastic.sampler import ElasticSampler
from taco.lightcc.torch.elastic.state import ObjectState, State, TorchState

__all__ = ["ElasticSampler", "ObjectState", "State", "TorchState", "run", "run_fn"]
