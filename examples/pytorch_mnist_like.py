"""Handwritten digits in PyTorch, distributed as Horovod's documents teach it.

Nothing in it is TACO's. With Horovod installed:

    horovodrun -np 2 python examples/pytorch_mnist_like.py

Without it, LightCC gives `horovod.torch`:

    taco run -np 2 examples/pytorch_mnist_like.py

The digits are scikit-learn's where it is installed; else drawn here: seven-segment figures, shifted
and blurred, in the same form, 8x8 pixels.
"""

import argparse

import horovod.torch as hvd
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data
import torch.utils.data.distributed


def parse():
    parser = argparse.ArgumentParser(description="Digits, distributed by Horovod's API")
    parser.add_argument("--batch-size", type=int, default=32, help="images of a step, per rank")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02, help="of one rank")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fp16-allreduce", action="store_true", help="send gradients as fp16")
    parser.add_argument("--use-adasum", action="store_true", help="Adasum instead of the average")
    parser.add_argument("--gradient-predivide-factor", type=float, default=1.0)
    parser.add_argument("--no-cuda", action="store_true")
    return parser.parse_args()


# The segments a..g that each digit has, and where they are: top row, left column, height, width.
SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
PLACES = {
    "a": (0, 1, 1, 3),
    "b": (0, 4, 4, 1),
    "c": (3, 4, 4, 1),
    "d": (6, 1, 1, 3),
    "e": (3, 1, 4, 1),
    "f": (0, 1, 4, 1),
    "g": (3, 1, 1, 3),
}


def draw_digits(count=1797, seed=0):
    """Images (count, 1, 8, 8) with values 0 to 16, and labels (count,)."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=random)
    images = torch.zeros(count, 1, 8, 8)
    for index, label in enumerate(labels.tolist()):
        for segment in SEGMENTS[label]:
            top, left, height, width = PLACES[segment]
            images[index, 0, top : top + height, left : left + width] = 16.0
    shifts = torch.randint(-1, 2, (count, 2), generator=random)
    for index, (down, right) in enumerate(shifts.tolist()):
        images[index] = images[index].roll((max(down, 0), right), (1, 2))
    images = F.avg_pool2d(images, 3, stride=1, padding=1) * 0.6 + images * 0.6
    images += torch.rand(images.shape, generator=random) * 6.0
    return images.clamp(0.0, 16.0), labels


def load_digits():
    try:
        from sklearn import datasets
    except ImportError:
        images, labels = draw_digits()
    else:
        found = datasets.load_digits()
        images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1)
        labels = torch.tensor(found.target)
    images = images / 8.0 - 1.0
    test = torch.arange(len(labels)) % 5 == 0
    return (
        torch.utils.data.TensorDataset(images[~test], labels[~test]),
        torch.utils.data.TensorDataset(images[test], labels[test]),
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.dropout(x, 0.2, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def train(args, model, optimizer, loader, sampler, epoch, cuda):
    model.train()
    # Each epoch deals the images to the ranks anew.
    sampler.set_epoch(epoch)
    for batch, (data, target) in enumerate(loader):
        if cuda:
            data, target = data.cuda(), target.cuda()
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        if batch % 10 == 0 and hvd.rank() == 0:
            # len(sampler), not len(dataset): what this rank sees.
            print(f"epoch {epoch} [{batch * len(data)}/{len(sampler)}] loss {loss.item():.4f}")


def metric_average(value, name):
    return hvd.allreduce(torch.tensor(value), name=name).item()


def test(model, loader, sampler, cuda):
    model.eval()
    loss = accuracy = 0.0
    with torch.no_grad():
        for data, target in loader:
            if cuda:
                data, target = data.cuda(), target.cuda()
            output = model(data)
            loss += F.nll_loss(output, target, reduction="sum").item()
            accuracy += (output.argmax(1) == target).float().sum().item()
    # Average over what this rank saw, then over the ranks.
    loss = metric_average(loss / len(sampler), "avg_loss")
    accuracy = metric_average(accuracy / len(sampler), "avg_accuracy")
    if hvd.rank() == 0:
        print(f"test set: average loss {loss:.4f}, accuracy {100.0 * accuracy:.1f}%")
    return accuracy


def main():
    args = parse()

    # Horovod: initialize the library.
    hvd.init()
    torch.manual_seed(args.seed)
    cuda = torch.cuda.is_available() and not args.no_cuda
    if cuda:
        # Horovod: pin the GPU to the local rank.
        torch.cuda.set_device(hvd.local_rank())
        torch.cuda.manual_seed(args.seed)

    train_set, test_set = load_digits()
    # Horovod: partition the data among the ranks.
    train_sampler, test_sampler = (
        torch.utils.data.distributed.DistributedSampler(
            data, num_replicas=hvd.size(), rank=hvd.rank()
        )
        for data in (train_set, test_set)
    )
    train_loader = torch.utils.data.DataLoader(
        train_set, batch_size=args.batch_size, sampler=train_sampler
    )
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=200, sampler=test_sampler)

    model = Net()
    # Adasum needs no scaling of the learning rate, but that of the local GPUs with NCCL.
    lr_scaler = hvd.size() if not args.use_adasum else 1
    if cuda:
        model.cuda()
        if args.use_adasum and hvd.nccl_built():
            lr_scaler = hvd.local_size()

    # Horovod: scale the learning rate.
    optimizer = optim.SGD(model.parameters(), lr=args.lr * lr_scaler, momentum=args.momentum)

    # Horovod: broadcast parameters and the optimizer's state from rank 0.
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    # Horovod: (optional) compression, and the optimizer around the optimizer.
    compression = hvd.Compression.fp16 if args.fp16_allreduce else hvd.Compression.none
    optimizer = hvd.DistributedOptimizer(
        optimizer,
        named_parameters=model.named_parameters(),
        compression=compression,
        op=hvd.Adasum if args.use_adasum else hvd.Average,
        gradient_predivide_factor=args.gradient_predivide_factor,
    )

    for epoch in range(1, args.epochs + 1):
        train(args, model, optimizer, train_loader, train_sampler, epoch, cuda)
        test(model, test_loader, test_sampler, cuda)


if __name__ == "__main__":
    main()
