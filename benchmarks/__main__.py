"""``python -m benchmarks NAME [arguments]``."""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "bits": "one hash per data set over libraries, backends, block sizes and threads",
    "memory": "peak memory of a fit against its limit",
    "cpu": "iterations, whole fits and seeding against scikit-learn and faiss",
    "batch": "many problems in one call, and product quantisation",
    "minibatch": "mini-batches against scikit-learn",
    "stream": "a file larger than the memory of the process",
    "dask": "iterations on a Dask array, in this process and on local workers",
    "scaling": "the cost model of docs/scaling.md against measured runs",
    "gpu": "one iteration against other libraries on the GPU",
}


def main() -> int:
    name, argv = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name not in NAMES:
        print("usage: python -m benchmarks NAME [--help | arguments]\n", file=sys.stderr)
        for known, purpose in NAMES.items():
            print(f"  {known:11}{purpose}", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    # One at a time: most machines have only some of the libraries that these compare with.
    module = importlib.import_module(f"benchmarks.{name}")
    return int(module.main(argv) or 0)


if __name__ == "__main__":
    sys.exit(main())
