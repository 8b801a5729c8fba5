"""Horovod's API for PyTorch over torch.distributed, with compression and measured choices."""
