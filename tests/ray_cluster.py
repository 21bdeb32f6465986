"""A sweep on a Ray cluster of two nodes on this machine, one of which is killed in the middle: ray_cluster.py FOLDER.

Prints how many rows there were when the node was killed, and how many nodes were alive at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from sweep_driver import slow_recipe

from csmkit.lab.sweep import EngineOptions, run_sweep

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    rows = Path(sys.argv[1]) / "rows.jsonl"
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    n_rows_at_kill: list[int] = []
    processes: set[int] = set()

    def kill() -> None:
        import json

        while len(processes) < 2:  # both nodes are at work
            time.sleep(0.005)
            lines = rows.read_bytes().splitlines() if rows.exists() else []
            processes.update(json.loads(line)["process"] for line in lines)
        n_rows_at_kill.append(len(lines))
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run_sweep(slow_recipe(), rows.parent, engine=EngineOptions("ray"), progress=False)
    killer.join(60)
    print("told:", n_rows_at_kill[0], sum(node["Alive"] for node in ray.nodes()), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
