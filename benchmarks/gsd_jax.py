"""The public Private-GSD code in JAX on the same table, for gsd_speed.py: candidates a second.

It runs in an interpreter of its own (jax 0.4.35, numpy < 2, pandas, chex, flax, scipy), with the
folder ``src`` of a checkout of github.com/giusevtr/private_gsd on PYTHONPATH. Its front end needs
smartnoise-synth, which is not loaded: statistics and search are its own, called as it calls them.

    PYTHONPATH=private_gsd/src PYTHON benchmarks/gsd_jax.py TABLE.csv DOMAIN.json GENERATIONS
"""

import contextlib
import io
import json
import sys
import time
import types
from pathlib import Path


def without_front_end() -> None:
    """Let the package be imported without its front end."""
    for path in sys.path:
        folder = Path(path) / "genetic_sd"
        if folder.is_dir():
            package = types.ModuleType("genetic_sd")
            package.__path__ = [str(folder)]
            sys.modules["genetic_sd"] = package
            front = types.ModuleType("snsynth.utils")
            front.cdp_rho = None
            sys.modules["snsynth"] = types.ModuleType("snsynth")
            sys.modules["snsynth.utils"] = front
            return
    sys.exit("genetic_sd is not on PYTHONPATH")


def main() -> None:
    table, described, generations = sys.argv[1:]
    without_front_end()
    import jax
    import pandas
    from genetic_sd.adaptive_statistics import AdaptiveChainedStatistics, Marginals
    from genetic_sd.generator.generator_genetic_sd import GeneticSD
    from genetic_sd.utils import Dataset, Domain

    sizes = json.loads(Path(described).read_text())
    domain = Domain({n: {"type": "string", "size": s} for n, s in sizes.items()})
    data = Dataset(pandas.read_csv(table)[list(sizes)], domain)
    with contextlib.redirect_stdout(io.StringIO()):
        statistics = AdaptiveChainedStatistics(data)
        statistics.add_stat_module_and_fit(Marginals.get_all_kway_combinations(domain, k=2))
        statistics.private_measure_all_statistics(key=jax.random.PRNGKey(0), rho=0.01497306)
        times = []
        for count in (20, 20 + int(generations)):  # each compiles anew
            search = GeneticSD(
                domain,
                2000,
                count,
                genetic_operators=("mutate", "cross"),
                stop_early=False,
            )
            started = time.perf_counter()
            search.fit(jax.random.PRNGKey(1), statistics)
            times.append(time.perf_counter() - started)
    per_second = int(generations) / (times[1] - times[0])
    print(json.dumps({"generations/s": per_second, "candidates/s": 50 * per_second}))


if __name__ == "__main__":
    main()
