"""The Ray engine, on a real cluster of two nodes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab_server import need
from sweep_driver import slow_recipe
from test_sweep import untimed

from csmkit.errors import InputError
from csmkit.lab.sweep import EngineOptions, read_rows, run_sweep

need("ray", extra="sweep")
HERE = Path(__file__).parent
NO_CLUSTER = 75  # exit status of ray_cluster.py
PATIENT = {  # a busy machine starts slowly; a node whose process is gone counts as dead after a few seconds
    "RAY_agent_register_timeout_ms": "200000",
    "RAY_raylet_start_wait_time_s": "40",
    "RAY_health_check_period_ms": "500",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ray_cluster.py has filled, in a process of its own, which shares one cluster among its sweeps."""
    folder = tmp_path_factory.mktemp("ray")
    gate = folder / "gate"
    gate.mkdir()
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    quiet = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "SLOW_VOICE_S": "0.01", "GATE": str(gate)}
    environment = os.environ | {"PYTHONPATH": paths} | PATIENT | quiet
    command = [sys.executable, str(HERE / "ray_cluster.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode == NO_CLUSTER:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nodes alive: 1" in done.stdout
    return folder


def test_a_sweep_whose_node_is_killed_ends_with_every_row_once(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = read_rows(results / "killed")
    assert len(found) == len({row["trial_id"] for row in found}) == 24
    assert not any(row["error"] for row in found)
    assert len({row["process"] for row in found}) == 1, "the other node was killed within its first trial"
    monkeypatch.setenv("GATE", str(results / "gate"))  # which is open
    run_sweep(slow_recipe("Gated"), tmp_path, progress=False)
    assert untimed(found) == untimed(read_rows(tmp_path))


def test_a_trial_that_hangs_on_a_node_is_a_failure_and_its_worker_is_replaced(results: Path):
    failed, fine = sorted(read_rows(results / "hangs"), key=lambda row: row["error"] is None)
    assert (failed["text"], failed["error_type"]) == ("hangs", "TimeoutError")
    assert (fine["text"], fine["error"]) == ("fine", None)


def test_an_address_where_nobody_listens_is_told_at_once(tmp_path: Path):
    engine = EngineOptions("ray", address="127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster at '127.0.0.1:1' .* start it with `ray start --head`"):
        run_sweep(slow_recipe(), tmp_path, engine=engine, progress=False)
