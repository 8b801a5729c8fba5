"""Without a launcher a program is a job of one rank."""

import pytest
import taco.lightcc.torch as hvd
import torch


@pytest.fixture(autouse=True)
def job(monkeypatch):
    for name in ("HOROVOD_RANK", "RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    hvd.init()
    yield
    hvd.shutdown()


def test_every_collective_is_the_identity():
    x = torch.arange(6.0).reshape(2, 3)
    assert (hvd.rank(), hvd.size(), hvd.local_rank(), hvd.cross_size()) == (0, 1, 0, 1)
    for op in (hvd.Sum, hvd.Average, hvd.Min, hvd.Max, hvd.Product, hvd.Adasum):
        assert torch.equal(hvd.allreduce(x, op=op), x)
    assert torch.equal(hvd.allgather(x), x)
    assert torch.equal(hvd.broadcast(x, 0), x)
    assert torch.equal(hvd.alltoall(x), x)
    assert torch.equal(hvd.reducescatter(x), x)
    assert hvd.broadcast_object({"a": [1]}) == {"a": [1]}
    assert hvd.join() == 0
    hvd.barrier()


def test_factors_and_compression():
    x = torch.tensor([1.0, 2.0, 1 / 3])
    assert torch.equal(hvd.allreduce(x, prescale_factor=2.0, postscale_factor=0.25), x * 0.5)
    assert torch.equal(hvd.allreduce(x, compression=hvd.Compression.fp16), x.half().float())
    ints = torch.tensor([7, -7])
    assert hvd.allreduce(ints, op=hvd.Sum, postscale_factor=0.5).tolist() == [3, -3]


def test_the_distributed_optimizer_steps_as_its_own_class():
    torch.manual_seed(0)
    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    stock = torch.optim.Adam(models[0].parameters(), lr=0.1)
    ours = hvd.DistributedOptimizer(
        torch.optim.Adam(models[1].parameters(), lr=0.1), models[1].named_parameters()
    )
    assert isinstance(ours, torch.optim.Adam)
    for _ in range(5):
        for model, optimizer in zip(models, (stock, ours), strict=True):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gradient_predivide_factor": 2.0, "op": hvd.Sum}, "gradient_predivide_factor"),
        ({"op": hvd.Max}, "op=Average, Sum or Adasum"),
        ({"groups": -1}, "groups"),
        ({"groups": [["x"]]}, "torch.Tensor"),
        ({"named_parameters": [("only", None)]}, "not named"),
        ({"named_parameters": ["w"]}, "tuples"),
    ],
)
def test_arguments_that_contradict_are_refused(changes, words):
    model = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=words):
        hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), **changes)
