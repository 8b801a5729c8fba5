"""TopK with error feedback where others do the training: in DDP, and in the original Horovod.

Start with `ddp`, the communication hook; `original_horovod` is the compressor. Neither needs
`hvd.init()`.
"""
