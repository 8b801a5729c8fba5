"""What programs of several ranks train: a small model on made-up data, the same on every rank."""

TRAINING = """
def make(width=96):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(32, width), torch.nn.Tanh(), torch.nn.Linear(width, 8)
    )

def data(step, r):
    g = torch.Generator().manual_seed(1000 * step + r)
    return torch.randn(4, 32, generator=g), torch.randn(4, 8, generator=g)

def loss_of(model, pair):
    x, y = pair
    return torch.nn.functional.mse_loss(model(x), y)

def flat(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()

def same_everywhere(model):
    own = flat(model)
    assert all(torch.equal(own, other) for other in hvd.allgather_object(own))

def modes():
    return {each.mode for each in hvd.explain().buckets}

def train(steps):
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.05), model.named_parameters()
    )
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, data(step, rank)).backward()
        optimizer.step()
    same_everywhere(model)

model = make()
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
"""
