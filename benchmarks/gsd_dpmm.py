"""A rival of gsd on the same table: MST or AIM of dpmm (PyPI), for gsd_adult.py.

dpmm needs Python 3.10 or 3.11 and NumPy 1, so it runs in an interpreter of its own.

    PYTHON benchmarks/gsd_dpmm.py mst|aim TABLE.csv DOMAIN.json EPSILON DELTA SEED OUT.csv
"""

import json
import sys
import time

import pandas
from dpmm.pipelines import AIMPipeline, MSTPipeline


def main() -> None:
    kind, table, domain, epsilon, delta, seed, out = sys.argv[1:]
    with open(domain) as file:
        sizes = json.load(file)
    frame = pandas.read_csv(table)[list(sizes)]
    pipeline = {"mst": MSTPipeline, "aim": AIMPipeline}[kind]
    size = {} if kind == "mst" else {"max_model_size": 10}
    started, cpu = time.perf_counter(), time.process_time()
    made = pipeline(
        epsilon=float(epsilon), delta=float(delta), disable_processing=True, n_jobs=2, **size
    )
    made.fit(frame, domain=sizes, random_state=int(seed))
    synthetic = made.generate(n_records=len(frame), random_state=int(seed))
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    synthetic.to_csv(out, index=False)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
