#!/bin/sh
# Pins requirements/*.in but peers.in: `make lock`. One lock serves Python 3.10 to 3.13.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
"$python" -m uv --version >/dev/null 2>&1 || "$python" -m pip install -q uv
for purpose in run torch dev bench horovod; do
  "$python" -m uv pip compile --quiet --universal --python-version 3.10 --upgrade --annotation-style line \
    --custom-compile-command "make lock" "requirements/$purpose.in" -o "requirements/$purpose.lock"
done
# torch.in says why: the CUDA build of torch names these itself, the CPU build wants none of them.
sed -i -E '/^(nvidia-|cuda-|triton)/d' requirements/torch.lock
