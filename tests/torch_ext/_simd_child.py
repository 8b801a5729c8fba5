"""Runs the ops at the instruction set that TACO_SIMD names; prints digests of all results."""

import hashlib
import json

import torch

from tests.torch_ext._ops import FLOATS, fresh_state, gradient, ops


def digest(*tensors: torch.Tensor) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def main() -> None:
    results = {}
    for dtype in FLOATS:
        for exact in (False, True):
            for with_velocity in (False, True):
                n = 50_003
                residual, state = torch.zeros(n), fresh_state()
                velocity = torch.zeros(n) if with_velocity else None
                for step in range(4):
                    packed = ops().topk_compress(
                        gradient(n, step, dtype),
                        residual,
                        state,
                        500,
                        scale=0.7,
                        exact=exact,
                        velocity=velocity,
                        momentum=0.9 if with_velocity else 0.0,
                    )
                key = f"{dtype} {exact} {with_velocity}"
                results[key] = digest(*packed, residual, state)
        for other in FLOATS:
            buffer = torch.zeros(30_001, dtype=other)
            ops().fuse([gradient(30_001, 1, dtype)], buffer, scale=0.3)
            results[f"{dtype} to {other}"] = digest(buffer)
    print(json.dumps({"simd": json.loads(ops().build_info())["simd"], "results": results}))


if __name__ == "__main__":
    main()
