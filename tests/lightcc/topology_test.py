"""Every launcher's variables give the rank's place; contradictions are refused with a remedy."""

import socket
import subprocess
import sys
from datetime import timedelta

import pytest
from taco.lightcc import _slurm, topology
from taco.lightcc.topology import StoreAddress, TopologyError

HOROVOD = {
    "HOROVOD_RANK": "3",
    "HOROVOD_SIZE": "5",
    "HOROVOD_LOCAL_RANK": "1",
    "HOROVOD_LOCAL_SIZE": "2",
    "HOROVOD_CROSS_RANK": "1",
    "HOROVOD_CROSS_SIZE": "2",
    "HOROVOD_HOSTNAME": "b",
}
TACO = {
    **HOROVOD,
    "TACO_STORE_ADDR": "10.0.0.1",
    "TACO_STORE_PORT": "4711",
    "TACO_JOB_ID": "x1",
    "TACO_RACK": "north",
}
TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "head",
    "MASTER_PORT": "29500",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prterun-host-1@1",
}
MPICH = {"PMI_RANK": "5", "PMI_SIZE": "6", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "3"}
SLURM = {
    "SLURM_PROCID": "4",
    "SLURM_NTASKS": "5",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "2",
    "SLURM_TASKS_PER_NODE": "2(x2),1",
    "SLURM_JOB_NODELIST": "gpu[07-09]",
    "SLURM_JOB_ID": "99",
}


def numbers(found):
    return (
        *(found.rank, found.size, found.local_rank, found.local_size),
        *(found.cross_rank, found.cross_size),
    )


@pytest.mark.parametrize(
    ("environ", "launcher", "expected", "even"),
    [
        ({}, "none", (0, 1, 0, 1, 0, 1), True),
        (HOROVOD, "horovod", (3, 5, 1, 2, 1, 2), False),
        (TACO, "taco", (3, 5, 1, 2, 1, 2), False),
        ({**TACO, "TACO_LOCAL_SIZES": "2,2,1"}, "taco", (3, 5, 1, 2, 1, 2), False),
        (TORCHRUN, "torchrun", (5, 8, 1, 4, 1, 2), True),
        (
            {**TORCHRUN, "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "3"},
            *("torchrun", (5, 8, 1, 4, 1, 3), False),
        ),
        (OPEN_MPI, "openmpi", (1, 2, 1, 2, 0, 1), True),
        (
            {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
            *("openmpi", (1, 4, 0, 2, 1, 2), True),  # dealt to the hosts in turn
        ),
        (MPICH, "mpich", (5, 6, 2, 3, 1, 2), True),
        (SLURM, "slurm", (4, 5, 0, 1, 2, 3), False),
        (
            {**SLURM, "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
            *("slurm", (3, 5, 1, 2, 1, 2), False),
        ),
    ],
)
def test_each_launcher_is_recognised(environ, launcher, expected, even):
    found = topology.detect(environ)
    assert (found.launcher, numbers(found), found.is_homogeneous) == (launcher, expected, even)


@pytest.mark.parametrize(
    ("environ", "store"),
    [
        ({}, None),
        (TACO, StoreAddress("10.0.0.1", 4711, True, "taco/x1")),
        ({**TACO, "TACO_ELASTIC_GENERATION": "7"}, StoreAddress("10.0.0.1", 4711, True, "taco/7")),
        (HOROVOD, None),
        (TORCHRUN, StoreAddress("head", 29500, False, "taco/torchrun/0")),
        (
            {
                **TORCHRUN,
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RUN_ID": "r",
                "TORCHELASTIC_RESTART_COUNT": "2",
            },
            StoreAddress("head", 29500, True, "taco/r/2"),
        ),
        (
            {**OPEN_MPI, "MASTER_ADDR": "head", "MASTER_PORT": "1234"},
            StoreAddress("head", 1234, False, "taco/prterun-host-1@1"),
        ),
        (MPICH, None),
    ],
)
def test_where_the_ranks_meet(environ, store):
    assert topology.detect(environ).store == store


def test_ranks_of_one_host_derive_the_same_port():
    first = topology.detect(OPEN_MPI).store
    second = topology.detect({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0"}).store
    assert first == second
    assert first.host == "127.0.0.1"
    assert 20_000 <= first.port < 32_000
    assert topology.detect({**OPEN_MPI, "PMIX_NAMESPACE": "other"}).store.port != first.port


def test_slurm_meets_at_the_first_host_of_the_list():
    found = topology.detect(SLURM).store
    assert (found.host, found.served, found.prefix) == ("gpu07", False, "taco/99.0")


def test_names_of_host_and_rack_are_the_launchers():
    found = topology.detect(TACO)
    assert (found.hostname, found.rack) == ("b", "north")
    assert topology.detect({}).hostname == socket.gethostname()
    assert topology.detect({}).rack is None


def test_the_launcher_nearest_to_the_program_counts():
    both = {**SLURM, **OPEN_MPI}
    assert topology.detect(both).launcher == "openmpi"
    assert topology.detect({**both, **TACO}).launcher == "taco"


def without(environ, name):
    return {key: text for key, text in environ.items() if key != name}


@pytest.mark.parametrize(
    ("environ", "wrong"),
    [
        (without(HOROVOD, "HOROVOD_SIZE"), "HOROVOD_SIZE is not set, though HOROVOD_"),
        (without(HOROVOD, "HOROVOD_CROSS_RANK"), "HOROVOD_CROSS_RANK is not set"),
        (without(TACO, "TACO_STORE_ADDR"), "TACO_STORE_ADDR is not"),
        (without(TACO, "TACO_STORE_PORT"), "TACO_STORE_PORT is not set"),
        ({**TACO, "TACO_STORE_PORT": "70000"}, "must be a TCP port"),
        ({**HOROVOD, "HOROVOD_RANK": "5"}, "The rank 5 must be below the size 5"),
        ({**HOROVOD, "HOROVOD_RANK": "-1"}, "HOROVOD_RANK='-1' must be a whole number"),
        ({**HOROVOD, "HOROVOD_LOCAL_RANK": "2"}, "The local_rank 2 must be below"),
        ({**HOROVOD, "HOROVOD_LOCAL_SIZE": "9"}, "does not fit rank 3 of 5"),
        ({"RANK": "0"}, "WORLD_SIZE is not set, though RANK are. torchrun sets"),
        (without(TORCHRUN, "LOCAL_RANK"), "LOCAL_RANK is not set"),
        (without(TORCHRUN, "MASTER_PORT"), "MASTER_PORT is not set"),
        (without(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE"), "LOCAL_SIZE is not set"),
        (without(MPICH, "PMI_SIZE"), "PMI_SIZE is not set"),
        ({**SLURM, "SLURM_NTASKS": "6"}, "does not fit SLURM_NODEID=2 and 6 tasks"),
        ({**SLURM, "SLURM_TASKS_PER_NODE": "2x"}, "is not like 2"),
        ({**SLURM, "SLURM_JOB_NODELIST": "gpu[1"}, "is not like host"),
    ],
)
def test_contradictions_are_refused_with_a_remedy(environ, wrong):
    with pytest.raises(TopologyError, match=".") as caught:
        topology.detect(environ)
    assert wrong in str(caught.value)
    assert issubclass(TopologyError, ValueError)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("one", "one"),
        ("one,two", "one"),
        ("n[1-4,7],other", "n1"),
        ("n[003-006]-ib", "n003-ib"),
        ("r[1-2]n[5,6]", "r1n5"),
        ("a.b-c_d", "a.b-c_d"),
    ],
)
def test_first_host_of_a_node_list(text, host):
    assert _slurm.first_host(text) == host


@pytest.mark.parametrize("text", ["", "[1-2", "a]b", "a b", ","])
def test_malformed_node_lists_are_refused(text):
    with pytest.raises(ValueError, match="SLURM_JOB_NODELIST"):
        _slurm.first_host(text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_one_rank_needs_no_network():
    store = topology.open_store(topology.detect({}), 5)
    store.set("key", "value")
    assert store.get("key") == b"value"


def test_several_ranks_and_no_place_is_an_error_with_a_remedy():
    with pytest.raises(TopologyError, match="set MASTER_ADDR .* or start the job with `taco run`"):
        topology.open_store(topology.detect(MPICH), 5)


def test_rank_0_serves_and_the_script_may_open_the_same_port():
    """Both stores work in one process, and neither sees the other's keys."""
    import torch.distributed as dist

    environ = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    environ["MASTER_PORT"] = str(free_port())
    ours = topology.open_store(topology.detect(environ), 20)
    port = int(environ["MASTER_PORT"])
    scripts = dist.TCPStore(*("127.0.0.1", port, 1, True, timedelta(seconds=20)), multi_tenant=True)
    ours.set("key", "ours")
    scripts.set("key", "script's")
    assert ours.get("key") == b"ours"
    assert scripts.get("taco/torchrun/0/key") == b"ours"
    other = topology.open_store(
        topology.detect({**environ, "RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0"}), 20
    )
    assert other.get("key") == b"ours"


def test_the_launchers_store_is_joined_as_a_client():
    import torch.distributed as dist

    server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    environ = {**TACO, "TACO_STORE_ADDR": "127.0.0.1", "TACO_STORE_PORT": str(server.port)}
    for rank in "0", "3":
        place = topology.detect(
            {**environ, "HOROVOD_RANK": rank, "HOROVOD_CROSS_RANK": "0"}
            | ({"HOROVOD_LOCAL_RANK": "0"} if rank == "0" else {})
        )
        topology.open_store(place, 20).set(f"from{rank}", "here")
    assert server.get("taco/x1/from0") == server.get("taco/x1/from3") == b"here"


def test_detecting_imports_no_torch():
    code = "import sys; from taco.lightcc import topology; topology.detect({}); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
