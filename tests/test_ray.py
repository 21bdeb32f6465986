"""The Ray engine, on a real cluster of two nodes on this machine."""

from __future__ import annotations

import json
import os
import re
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


@pytest.mark.skipif(
    "CSMKIT_TEST_CLUSTER" not in os.environ,
    reason="a sweep whose node is killed does not always end here, not yet understood: set CSMKIT_TEST_CLUSTER=1",
)
def test_a_sweep_goes_on_when_a_node_is_killed_and_has_every_row_once(tmp_path: Path):
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    patience = {"RAY_agent_register_timeout_ms": "200000", "RAY_raylet_start_wait_time_s": "200"}  # a busy machine
    quiet = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "SLOW_VOICE_S": "0.05"}
    environment = os.environ | {"PYTHONPATH": paths} | patience | quiet
    command = [sys.executable, str(HERE / "ray_cluster.py"), str(tmp_path / "ray")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (told,) = re.findall(r"told: (\d+) (\d+)", done.stdout)  # Ray says things of its own
    n_rows_at_kill, n_alive = map(int, told)
    assert n_rows_at_kill < 24 and n_alive == 1
    found = [json.loads(line) for line in (tmp_path / "ray" / "rows.jsonl").read_text().splitlines()]
    assert len(found) == len({row["trial_id"] for row in found}) == 24
    run_sweep(slow_recipe(), tmp_path / "here", progress=False)
    assert untimed(found) == untimed(read_rows(tmp_path / "here"))


def test_an_address_where_nobody_listens_is_told_at_once(tmp_path: Path):
    engine = EngineOptions("ray", address="127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster at '127.0.0.1:1' .* start it with `ray start --head`"):
        run_sweep(slow_recipe(), tmp_path, engine=engine, progress=False)
