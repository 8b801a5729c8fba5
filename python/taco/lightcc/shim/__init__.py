"""The folder that provides the name `horovod`: `taco run` puts it into the ranks' PYTHONPATH.

It does so where Horovod itself is not installed, or where `--shim` asks for it.
"""
