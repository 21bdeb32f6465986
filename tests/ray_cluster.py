"""Sweeps on a Ray cluster of two nodes on this machine: ray_cluster.py FOLDER, with GATE and SLOW_VOICE_S set.

The first sweep loses a node while both nodes are within their first trial; its rows are in FOLDER/killed. The second
one, on the node that is left, has a trial that hangs; its rows are in FOLDER/hangs. Prints how many rows there were
when the node was killed, and how many nodes are alive at the end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster
from sweep_driver import slow_recipe

from csmkit.lab.sweep import EngineOptions, engines, read_rows, run_sweep, runner

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
N_STARTS = 3
NO_CLUSTER = 75  # exit status


def start_cluster() -> tuple[Cluster, Any]:
    """A cluster and its second node. Each node has a core.

    A node gives up if its dashboard's agent has not started within 15 s, which happens on a busy machine. Without the
    packages of a dashboard there is less to start.
    """
    ray._private.utils.get_dashboard_dependency_error = lambda: ImportError("no dashboard is needed")
    for n_left in reversed(range(N_STARTS)):
        cluster = Cluster()
        try:
            cluster.add_node(**NODE, include_dashboard=False, no_monitor=True)
            return cluster, cluster.add_node(**NODE)
        except Exception as error:  # Ray has no class of its own for this
            if not n_left:
                print(f"Ray did not start: {error}", flush=True)
                sys.exit(NO_CLUSTER)
            cluster.shutdown()
    raise AssertionError


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def runs(process: int) -> bool:
    """A process whose parent was killed may stay as a zombie."""
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE


def kill_in_first_trial(cluster: Cluster, node: Any, gate: Path) -> None:
    """Kill the node once a trial runs on each, and let the other trial go on once the first one's process is dead."""
    until(lambda: len(list(gate.iterdir())) == 2)
    processes = [int(path.name) for path in gate.iterdir()]
    cluster.remove_node(node, allow_graceful=False)
    until(lambda: sum(map(runs, processes)) < 2)
    (gate / "open").touch()


def sweep_that_loses_a_node(folder: Path, cluster: Cluster, node: Any, gate: Path) -> None:
    killer = threading.Thread(target=kill_in_first_trial, args=(cluster, node, gate), daemon=True)
    killer.start()
    # Two workers are asked for to the end: the one in place of the lost one finds no node.
    run_sweep(slow_recipe("Gated"), folder, engine=EngineOptions("ray", 2), progress=False)
    killer.join()


def sweep_with_a_trial_that_hangs(folder: Path) -> None:
    runner.LOADING_S = 0.0  # models are loaded before the first trial
    recipe = slow_recipe("Hangs", texts=["fine", "hangs"], axes={"codec": "fake"}, seeds=[0])
    run_sweep(recipe, folder, engine=EngineOptions("ray", timeout_s=5), progress=False)


class WithoutModels:
    """An actor that starts soon."""

    def load(self, *task: Any) -> None:
        del task


def workers_end_when_few_trials_are_left() -> None:
    engines._RayWorker = WithoutModels
    engine = EngineOptions("ray", 2).start(slow_recipe())
    until(lambda: engine.room(n_left=3) == 1)
    assert len(engine.starting) == 1, "the second one finds no node"
    assert engine.room(n_left=1) == 1 and not engine.starting
    assert engine.room(n_left=0) == 0
    until(lambda: ray.available_resources().get("CPU") == 1)
    engine.close()


def main() -> None:
    folder, gate = Path(sys.argv[1]), Path(os.environ["GATE"])
    cluster, second = start_cluster()
    ray.init(address=cluster.address, log_to_driver=False)
    sweep_that_loses_a_node(folder / "killed", cluster, second, gate)
    assert len(read_rows(folder / "killed")) == 24
    sweep_with_a_trial_that_hangs(folder / "hangs")
    workers_end_when_few_trials_are_left()
    print("nodes alive:", sum(found["Alive"] for found in ray.nodes()), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
