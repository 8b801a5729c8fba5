"""Training on two ranks is training on the joined batch."""

_MODEL = """
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

def data(step, r):
    g = torch.Generator().manual_seed(100 * step + r)
    return torch.randn(4, 8, generator=g), torch.randn(4, 3, generator=g)

def loss_of(model, pairs):
    return sum(torch.nn.functional.mse_loss(model(x), y) for x, y in pairs) / len(pairs)

def close(a, b, tolerance=1e-6):
    for p, q in zip(a.parameters(), b.parameters()):
        assert torch.allclose(p, q, atol=tolerance), (p - q).abs().max()

def same_everywhere(model):
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert all(torch.equal(flat, other) for other in hvd.allgather_object(flat))
"""


def _train(options: str, tolerance: float = 1e-6) -> str:
    return (
        _MODEL
        + f"""
stock, ours = make(), make()
stock_optimizer = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9)
optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
hvd.broadcast_parameters(ours.state_dict(), root_rank=0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)
optimizer = hvd.DistributedOptimizer(optimizer, ours.named_parameters(), {options})
for step in range(8):
    stock_optimizer.zero_grad()
    loss_of(stock, [data(step, r) for r in range(size)]).backward()
    stock_optimizer.step()
    optimizer.zero_grad()
    loss_of(ours, [data(step, rank)]).backward()
    optimizer.step()
close(stock, ours, {tolerance})
same_everywhere(ours)
"""
    )


def test_average_is_the_joined_batch(ranks):
    ranks(2, _train(""))
    ranks(3, _train("gradient_predivide_factor=2.0"))


def test_groups_compression_and_small_buckets(ranks):
    ranks(2, _train("groups=2"))
    ranks(2, _train("groups=[[ours[0].weight, ours[2].bias]]"))
    ranks(2, _train("compression=hvd.Compression.fp16", tolerance=1e-2))
    ranks(2, _train(""), HOROVOD_FUSION_THRESHOLD="0")


def test_gradients_are_reduced_when_backward_returns(ranks):
    """So clipping and GradScaler, which know nothing of ranks, see what will be applied."""
    ranks(
        2,
        _MODEL
        + """
model = make()
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1),
                                     model.named_parameters())
for step in range(6):
    optimizer.zero_grad()
    loss_of(model, [data(step, rank)]).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert all(norm == other for other in hvd.allgather_object(norm))
    optimizer.step()
same_everywhere(model)

scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
for step in range(6):
    optimizer.zero_grad()
    loss = loss_of(model, [data(step, rank)])
    if step == 3 and rank == 1:
        loss = loss * float("inf")  # one rank overflows: all skip the step
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(scaler.get_scale() == other for other in hvd.allgather_object(scaler.get_scale()))
same_everywhere(model)
""",
    )


def test_accumulation_and_unused_parameters(ranks):
    ranks(
        2,
        _MODEL
        + """
class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(8, 3) for _ in range(2)])

    def forward(self, x, which):
        return self.heads[which](x)

model = Two()
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1),
                                     model.named_parameters(), backward_passes_per_step=2)
for step in range(5):
    optimizer.zero_grad()
    for _ in range(2):
        x, y = data(step, rank)
        which = (step + rank) % 2  # each rank uses another head
        torch.nn.functional.mse_loss(model(x, which), y).backward()
    hvd.allreduce(torch.ones(1), name="metric")  # before step, as scripts do
    optimizer.step()
same_everywhere(model)
""",
    )


def test_sparse_gradients(ranks):
    ranks(
        2,
        _MODEL
        + """
for dense in (False, True):
    torch.manual_seed(0)
    table = torch.nn.Embedding(10, 4, sparse=True)
    start = table.weight.detach().clone()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(table.parameters(), lr=1.0),
                                         table.named_parameters(), sparse_as_dense=dense)
    for _ in range(4):
        optimizer.zero_grad()
        table(torch.tensor([rank, 5])).sum().backward()
        optimizer.step()
    change = start - table.weight.detach()
    expected = torch.zeros(10, 4)
    expected[0] = expected[1] = 4 * 0.5
    expected[5] = 4 * 1.0
    assert torch.allclose(change, expected), change
""",
    )


def test_adasum_optimizer(ranks):
    ranks(
        2,
        _MODEL
        + """
model = make()
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.05),
                                     model.named_parameters(), op=hvd.Adasum)
losses = []
for step in range(30):
    optimizer.zero_grad()
    loss = loss_of(model, [data(0, rank)])
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
same_everywhere(model)
""",
    )


def test_zero_grad_at_the_wrong_time_and_more_passes_than_announced(ranks):
    ranks(
        2,
        _MODEL
        + """
model = make()
unused = torch.nn.Linear(2, 2)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD([*model.parameters(), *unused.parameters()], lr=0.1))
loss_of(model, [data(0, rank)]).backward()  # the rest is handed in by step
try:
    optimizer.zero_grad()
except AssertionError as error:
    assert "before optimizer.step()" in str(error)
else:
    raise RuntimeError
optimizer.synchronize()
with optimizer.skip_synchronize():
    optimizer.step()
optimizer.zero_grad()
loss_of(model, [data(0, rank)]).backward()
try:
    loss_of(model, [data(0, rank)]).backward()
except AssertionError as error:
    assert "backward_passes_per_step" in str(error)
else:
    raise RuntimeError
optimizer.step()
""",
    )
