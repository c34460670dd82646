"""Seconds until worker processes have their first value of a function compiled by Numba.

Fresh processes start at once and get the same bytes: by cloudpickle with Numba's own reduction, or
by zoo's parcels, within zoo.jit.warm. Each is given the function by value, its file being gone,
and an empty cache the first time. The seconds are from unpacking to the first value; imports and
Numba's own start, which the engine's kernels need anyway, are not in it.

    python benchmarks/compiled_on_workers.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
from report import arguments, report

SHORT = """
@numba.njit
def sum_of_squares(x):
    s = 0.0
    for v in x:
        s += v * v
    return s
"""


def sources(stages):
    """A module of two functions: a short one, and one of so many stages, no two alike."""
    lines = ["import math", "import numba", SHORT, "@numba.njit", "def long(x):", "    s = 0.0"]
    for k in range(stages):
        lines += [
            "    for i in range(len(x)):",
            f"        v = x[i] + {k}.5",
            f"        if v > {k}.0 + s:",
            f"            s += math.sin(v) * math.exp(-v / {k + 1}.0)",
            "        else:",
            f"            s -= math.sqrt(abs(v)) + x[(i + {k}) % len(x)]",
        ]
    return "\n".join([*lines, "    return s", ""])


def packed(function, way):
    from zoo.runtime.parcel import pack

    if way == "zoo":
        return pack(function)
    cloudpickle.register_pickle_by_value(sys.modules[function.py_func.__module__])
    try:
        return cloudpickle.dumps(function)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[function.py_func.__module__])


def worker(path, way):
    """Print the seconds of this process, how often it compiled, and the value."""
    import numba
    import numpy as np

    from zoo.jit import warm
    from zoo.runtime import dispatchers, parcel  # noqa: F401

    data = Path(path).read_bytes()
    x = np.linspace(0.0, 1.0, 20)
    numba.njit(lambda x: x[0])(x)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    if way == "zoo":
        with warm(parcel.code_of(data)):
            function = parcel.unpack(data)
            value = function(x)
    else:
        function = cloudpickle.loads(data)
        value = function(x)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, sum(function.stats.cache_misses.values()), value.hex()]))


def together(path, way, count, environment):
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(path), way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=path.parent,
        )
        for _ in range(count)
    ]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [json.loads(child.communicate()[0]) for child in children]
    assert all(child.returncode == 0 for child in children)
    assert len({value for _, _, value in told}) == 1
    return [seconds for seconds, _, _ in told], sum(misses > 0 for _, misses, _ in told)


def measured(quick):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "functions_of_the_user.py"
        module.write_text(sources(2 if quick else 80))
        sys.path.append(folder)
        functions = importlib.import_module(module.stem)
        module.unlink()
        for name in ("sum_of_squares", "long"):
            for count in (2, 4):
                for way in ("numba", "zoo"):
                    path = Path(folder) / "packed"
                    path.write_bytes(packed(getattr(functions, name), way))
                    cache = Path(folder) / f"cache-{name}-{count}-{way}"
                    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
                    for time_ in ("first", "second"):
                        seconds, compiled = together(path, way, count, environment)
                        rows.append(
                            {
                                "function": name,
                                "processes": count,
                                "by": way,
                                "time": time_,
                                "first of them s": min(seconds),
                                "last of them s": max(seconds),
                                "compiled": compiled,
                                "bytes": path.stat().st_size,
                            }
                        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
        raise SystemExit
    options = arguments(__doc__)
    report("First value of a compiled function on workers", measured(options.quick), options.out)
