"""One rank of `function.run`: fetches the function, calls it, and hands in what it returned."""

import importlib
import os
import pickle
from typing import Any

from taco.lightcc.run.client import connect

PREFIX = "taco/function"  # `call` is a pickle of (function, args, kwargs), `result/RANK` its result


def pickler() -> Any:
    """cloudpickle where it is installed: it takes lambdas and functions of scripts."""
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return pickle


def main() -> None:
    """Runs in a rank."""
    address, port = os.environ["TACO_STORE_ADDR"], int(os.environ["TACO_STORE_PORT"])
    store = connect(address, port, PREFIX, 300.0)
    function, args, kwargs = pickle.loads(store.get("call"))
    result = function(*args, **kwargs)
    store.set(f"result/{os.environ['HOROVOD_RANK']}", pickler().dumps(result))


if __name__ == "__main__":
    main()
