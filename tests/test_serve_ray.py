"""The server as replicas on a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_server import need

need("starlette", "uvicorn", "websockets", extra="serve")

from csmkit.errors import InputError
from csmkit.serve.replicas import ReplicaOptions

HERE = Path(__file__).parent
NO_CLUSTER = 75  # exit status of ray_cluster.start_cluster


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"replicas": 0}, "replicas=0: give a whole number of at least 1"),
        ({"replicas": 3, "most_replicas": 2}, "most_replicas=2: give a whole number of at least replicas=3"),
        ({"gpus": -1}, "gpus=-1: give a number of at least 0"),
        ({"streams_a_replica": 0}, "streams_a_replica=0: give a number above 0"),
    ],
)
def test_numbers_of_replicas_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReplicaOptions(**given)


@pytest.mark.skipif(
    "CSMKIT_TEST_CLUSTER" not in os.environ,
    reason="needs ray[serve], and minutes on a busy machine: set CSMKIT_TEST_CLUSTER=1",
)
def test_a_replica_whose_node_is_killed_costs_its_own_turns_and_no_others(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    patience = {"RAY_agent_register_timeout_ms": "200000", "RAY_raylet_start_wait_time_s": "200"}  # a busy machine
    quiet = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0"}
    command = [sys.executable, str(HERE / "ray_replicas.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": paths} | patience | quiet
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode == NO_CLUSTER:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    (report,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"replicas"')]
    assert report["replicas"] == [1, 2], "as many as there are streams for"
    node, dead = report["nodes"], report["dead"]
    assert set(report["firsts"].values()) == {"completed"} and report["n_over"] == 0
    assert {name: "broken" if node[name] == dead else "whole" for name in report["ends"]} == report["ends"]
    again, ends = report["again"], report["seconds"]
    assert {name: "closed" if node[name] == dead else "completed" for name in ends} == ends
    kept = [name for name, end in ends.items() if end == "completed"]
    assert kept and {name: again[f"again{name}"] for name in kept} == {name: node[name] for name in kept}
