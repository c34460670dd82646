"""One Ray for the whole test run, started when the first test needs it."""

import os

import pytest

pytest.register_assert_rewrite("commands")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items):
    """Tests with Ray wait a lot: one process runs all of them, first, and another the others."""

    def with_ray(item):
        return "cluster" in item.fixturenames or "ray" in item.path.stem.split("_")

    for item in items:
        if with_ray(item):
            item.add_marker(pytest.mark.xdist_group("ray"))
    items.sort(key=lambda item: not with_ray(item))


@pytest.fixture(autouse=True)
def _gpu_or_skip(request):
    """Tests marked ``gpu`` need one, or the simulator; see test_simulator.py."""
    if request.node.get_closest_marker("gpu") is None:
        return
    from zoo.cuda import require
    from zoo.errors import InputError

    try:
        require()
    except InputError:
        pytest.skip("there is no GPU")


@pytest.fixture(scope="session")
def cluster():
    """A head node with a dashboard, which jobs need; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    from zoo.runtime.distributed.connection import connect

    node = {"num_cpus": 4, "num_gpus": 1, "include_dashboard": True, "dashboard_port": 0}
    node["dashboard_agent_listen_port"] = 0
    try:
        cluster = Cluster(initialize_head=True, head_node_args=node)
    except Exception:  # a busy machine misses Ray's own time limits
        cluster = Cluster(initialize_head=True, head_node_args=node)
    connection = connect(cluster.address)
    yield cluster
    connection.end()
    cluster.shutdown()
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def crews(cluster):
    """Workers that serve many tests: crews of 1, 2 and 3."""
    import zoo

    crews = {count: zoo.workers(count, cpus_per_worker=0.2) for count in (1, 2, 3)}
    yield crews
    for crew in crews.values():
        crew.close()
