"""Sweeps: rows that are whole, unique and reproducible, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sweep_driver import drive, slow_recipe

from csmkit.errors import InputError, ResultsError
from csmkit.lab.metrics.registry import metrics_version
from csmkit.lab.report.folder import RowsMirror
from csmkit.lab.sweep import EngineOptions, Recipe, make_recipe, merge_rows, read_rows, run_sweep
from csmkit.lab.sweep.row_file import RowFile
from csmkit.lab.trials.batch import run_trials_together
from csmkit.lab.trials.trial import TrialSettings, run_trial
from csmkit.speech.generator import FakeGenerator, Generator

TIMES = (
    "started",
    "code_sha256",
    "commit",  # someone may be editing while the tests run
    "n_batch",
    "process",
    "threads",
    "trial_s",
    "cpu_s",
    "ttfa_ms",
    "ttfa_audible_ms",
    "gap_p50_ms",
    "gap_p95_ms",
    "rtf",
    "max_underrun_ms",
    "n_underruns",
)


def fake_recipe(**table: Any) -> Recipe:
    axes = {"codec": "fake"} | table.pop("axes", {})
    default = {"texts": ["one two three", "four five"], "seeds": [0, 1], "metrics": ["codes"], "speech": "fake"}
    return make_recipe("fake", default | {"axes": axes} | table)


def untimed(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must be equal however often a sweep was interrupted."""
    return {row["trial_id"]: {key: value for key, value in row.items() if key not in TIMES} for row in rows}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def server() -> BaseContext:
    """Starts processes that have imported everything already, from one that runs no threads."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server does not take it from here
    context = get_context("forkserver")
    context.set_forkserver_preload(["sweep_driver"])
    return context


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_sweep(slow_recipe(), folder, progress=False)
    return read_rows(folder)


def test_a_sweep_killed_ten_times_has_the_rows_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: list[dict[str, Any]], server: BaseContext
):
    draw, killed = random.Random(0), 0
    rows = tmp_path / "rows.jsonl"
    while killed < 10:
        running = server.Process(target=drive, args=(tmp_path, "local"))
        n_wanted = rows.read_bytes().count(b"\n") + draw.randint(0, 2) if rows.exists() else 1
        running.start()
        # Getting ready takes longer than a trial: most kills shall hit trials and the writing of rows.
        while running.is_alive() and not (rows.exists() and rows.read_bytes().count(b"\n") >= n_wanted):
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.06))
        running.kill()
        running.join()
        assert running.exitcode == -signal.SIGKILL
        killed += 1
    assert len(lines(tmp_path)) < 24
    running = server.Process(target=drive, args=(tmp_path, "local"))
    running.start()
    running.join()
    assert running.exitcode == 0
    found = lines(tmp_path)
    assert len(found) == len({row["trial_id"] for row in found}) == 24
    assert untimed(found) == untimed(undisturbed)


def test_two_processes_share_the_trials_and_make_the_same_rows(tmp_path: Path, undisturbed: list[dict[str, Any]]):
    drive(tmp_path, "processes")
    assert untimed(lines(tmp_path)) == untimed(undisturbed)


def test_a_row_tells_what_ran_on_what(undisturbed: list[dict[str, Any]]):
    row = undisturbed[0]
    for key in (
        "version_csmkit",
        "commit",
        "preset",
        "voice",
        "voice_sha256",
        "device",
        "version_torch",
        "python",
        "started",
    ):
        assert key in row
    assert {row["experiment"], row["preset"], row["metrics"]} == {"slow", "pocket", "latency,codes"}
    assert row["n_chunks"] == -(-row["n_frames"] // row["chunk_frames"]) and row["error"] is None
    order = sorted(undisturbed, key=lambda row: row["started"])
    assert [r["chunk_frames"] for r in order] != sorted(r["chunk_frames"] for r in order)


def test_what_is_done_is_not_run_again_and_a_sweep_can_be_extended(tmp_path: Path):
    first = run_sweep(fake_recipe(), tmp_path, progress=False)
    again = run_sweep(fake_recipe(), tmp_path, progress=False)
    more = run_sweep(fake_recipe(seeds=[0, 1, 2]), tmp_path, progress=False)
    assert [(done.n_run, done.n_skipped) for done in (first, again, more)] == [(4, 0), (0, 4), (2, 4)]
    assert len(lines(tmp_path)) == 6
    fresh = run_sweep(fake_recipe(), tmp_path, fresh=True, progress=False)
    assert fresh.n_run == 4 == len(lines(tmp_path))


def test_rows_that_cannot_be_compared_are_not_mixed(tmp_path: Path):
    run_sweep(fake_recipe(), tmp_path, progress=False)
    with pytest.raises(InputError, match="rows of the metrics codes, the recipe has levels"):
        run_sweep(fake_recipe(metrics=["levels"]), tmp_path, progress=False)
    rows = lines(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row | {"voice_sha256": "old"}) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"rows of another voice.*--renew"):
        run_sweep(fake_recipe(), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("column", "message"),
    [("cpu", "machine"), ("code_sha256", "state of csmkit"), ("metrics_version", "metrics")],
)
def test_rows_of_another_machine_code_or_metric_are_not_gone_on_with(tmp_path: Path, column: str, message: str):
    run_sweep(fake_recipe(), tmp_path, progress=False)
    before = lines(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row | {column: "other"}) + "\n" for row in before))
    with pytest.raises(InputError, match=rf"rows of another .*{message}.*{column} other, here .*--renew"):
        run_sweep(fake_recipe(), tmp_path, progress=False)
    again = run_sweep(fake_recipe(), tmp_path, renew=True, progress=False)
    assert (again.n_skipped, again.n_run) == (0, len(before))
    assert {row[column] for row in lines(tmp_path)} == {row[column] for row in before}


def test_a_metric_that_is_changed_has_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "loudest_sample.py"
    source.write_text("def loudest(audio):\n    return float(abs(audio).max())\n")
    before = metrics_version(["loudest_sample:loudest"])
    source.write_text("def loudest(audio):\n    return float(abs(audio).max()) / 2\n")
    assert metrics_version(["loudest_sample:loudest"]) != before


def test_a_trial_that_hangs_is_a_failure_and_its_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("csmkit.lab.sweep.runner.LOADING_S", 20.0)
    recipe = fake_recipe(texts=["fine", "hangs"], seeds=[0], metrics=["latency"], speech="slow_voice:Hangs")
    engine = EngineOptions("processes", 1, timeout_s=0.5)
    done = run_sweep(recipe, tmp_path, engine=engine, progress=False)
    assert (done.n_run, done.n_failed) == (2, 1)
    (failed,) = [row for row in lines(tmp_path) if row["error"]]
    assert (failed["text"], failed["error_type"]) == ("hangs", "TimeoutError")


def test_a_trial_that_is_slow_ends_between_two_chunks_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLOW_VOICE_S", "0.05")
    recipe = fake_recipe(texts=["one two three four"], seeds=[0], metrics=["latency"], speech="slow_voice:SlowVoice")
    done = run_sweep(recipe, tmp_path, engine=EngineOptions(timeout_s=0.01), progress=False)
    assert done.n_failed == 1 and lines(tmp_path)[0]["error_type"] == "TimeoutError"


def test_a_sweep_whose_trials_all_fail_stops_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken").touch()
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    texts = [f"broken {number}" for number in range(9)]
    recipe = fake_recipe(texts=texts, seeds=[0], metrics=["latency"], speech="slow_voice:FailsOnce")
    with pytest.raises(ResultsError, match=r"3 trials in a row failed, the last by DeviceError.*--retry-failed"):
        run_sweep(recipe, tmp_path / "rows", engine=EngineOptions(most_failures=3), progress=False)
    assert len(lines(tmp_path / "rows")) == 3


def test_shards_of_a_sweep_make_the_rows_of_the_whole(tmp_path: Path):
    recipe = fake_recipe(keep="audio")
    run_sweep(recipe, tmp_path / "whole", progress=False)
    for number in (1, 2, 3):
        run_sweep(recipe, tmp_path / f"part {number}", shard=(number, 3), progress=False)
    parts = [tmp_path / f"part {number}" for number in (1, 2, 3)]
    assert merge_rows(parts, tmp_path / "merged") == len(lines(tmp_path / "whole"))
    assert untimed(lines(tmp_path / "merged")) == untimed(lines(tmp_path / "whole"))
    clips = [sorted(path.name for path in (tmp_path / name / "clips").iterdir()) for name in ("whole", "merged")]
    assert clips[0] == clips[1]
    assert merge_rows(parts, tmp_path / "merged") == len(lines(tmp_path / "whole"))  # again changes nothing
    run_sweep(fake_recipe(metrics=["levels"]), tmp_path / "other", progress=False)
    with pytest.raises(InputError, match="differ in metrics"):
        merge_rows([*parts, tmp_path / "other"], tmp_path / "merged")
    with pytest.raises(InputError, match="shard 4 of 3"):
        run_sweep(recipe, tmp_path / "whole", shard=(4, 3), progress=False)


def test_rows_follow_to_a_store_and_come_back(tmp_path: Path):
    recipe = fake_recipe()
    store = f"file://{tmp_path / 'store'}"
    mirror = RowsMirror(store, tmp_path / "here", every_s=0)
    n_there = []

    def on_row(row: dict[str, Any]) -> None:
        mirror(row)
        n_there.append(len((tmp_path / "store" / "rows.jsonl").read_text().splitlines()))

    run_sweep(recipe, tmp_path / "here", progress=False, on_row=on_row)
    assert n_there == list(range(1, len(n_there) + 1))  # while it runs
    there = RowsMirror(store, tmp_path / "elsewhere")
    assert there.pull() == 1
    assert run_sweep(recipe, tmp_path / "elsewhere", progress=False).n_run == 0
    assert there.pull() == 0  # what is here stays


def test_each_worker_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    engine = EngineOptions("processes").start(fake_recipe())
    try:
        assert engine.room(n_left=9) == 2
        seen = {worker.pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() for worker in engine.workers}
        assert seen == {"2", "5"}
    finally:
        engine.close()


def test_a_failing_trial_is_a_row_and_can_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = tmp_path / "broken"
    broken.touch()
    monkeypatch.setenv("BROKEN", str(broken))
    recipe = fake_recipe(texts=["all is well", "this is broken"], speech="slow_voice:FailsOnce")
    first = run_sweep(recipe, tmp_path / "rows", progress=False)
    assert (first.n_run, first.n_failed) == (4, 2)
    failed = [row for row in lines(tmp_path / "rows") if row["error"]]
    assert {(row["error_type"], row["error"]) for row in failed} == {("DeviceError", "out of memory, says the test")}
    assert {row["text"] for row in failed} == {"this is broken"}  # its neighbours in the batch are fine
    broken.unlink()
    assert run_sweep(recipe, tmp_path / "rows", progress=False).n_failed == 2
    retried = run_sweep(recipe, tmp_path / "rows", retry_failed=True, progress=False)
    assert (retried.n_run, retried.n_skipped, retried.n_failed) == (2, 2, 0)
    rows = read_rows(tmp_path / "rows")
    assert len(rows) == 4 and {row["attempt"] for row in rows} == {1, 2}


def test_a_worker_that_dies_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLOW_VOICE_S", "0.2")  # the other one is under way when it dies
    texts = ["fine and long enough to be under way", "deadly"]
    recipe = fake_recipe(texts=texts, seeds=[0], metrics=["latency"], speech="slow_voice:Dies")
    done = run_sweep(recipe, tmp_path, engine=EngineOptions("processes", 2), progress=False)
    assert (done.n_run, done.n_failed) == (2, 1)
    (failed,) = [row for row in lines(tmp_path) if row["error"]]
    assert failed["text"] == "deadly"
    assert failed["error_type"] == "WorkerLost" and "died 3 times" in failed["error"]


def test_half_a_last_line_is_told_and_its_trial_runs_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run_sweep(fake_recipe(), tmp_path, progress=False)
    rows, path = lines(tmp_path), tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    done = run_sweep(fake_recipe(), tmp_path, progress=False)
    assert (done.n_run, done.n_skipped) == (1, 3)
    assert "1 damaged line(s)" in caplog.text and "3 rows are kept" in caplog.text
    assert (tmp_path / "rows.damaged").stat().st_size > 0
    assert untimed(lines(tmp_path)) == untimed(rows)


def test_a_damaged_line_in_the_middle_does_not_take_others_along(tmp_path: Path):
    run_sweep(fake_recipe(), tmp_path, progress=False)
    path = tmp_path / "rows.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(kept[0] + b"\x00\xff not json\n[1]\n" + b"".join(kept[1:]))
    assert run_sweep(fake_recipe(), tmp_path, progress=False).n_run == 0
    assert path.read_bytes() == b"".join(kept)


def test_a_full_disk_is_told_and_what_was_written_is_whole(tmp_path: Path):
    folder = tmp_path / "rows"
    with RowFile(folder) as rows:
        rows.append({"trial_id": "first", "text": "x" * 500})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The system's own way to let a write stop in the middle: a file may not grow beyond this.
        resource.setrlimit(resource.RLIMIT_FSIZE, (800, limits[1]))
        try:
            with pytest.raises(ResultsError, match=r"cannot write results .* make room .* run the same command again"):
                rows.append({"trial_id": "second", "text": "y" * 500})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        rows.append({"trial_id": "second", "text": "y" * 500})  # there is room again
    assert [row["trial_id"] for row in lines(folder)] == ["first", "second"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match=r"cannot write results in .*choose another folder"):
        run_sweep(fake_recipe(), tmp_path / "file", progress=False)
    with pytest.raises(ResultsError, match="cannot write results in '/proc/csmkit'"):
        run_sweep(fake_recipe(), Path("/proc/csmkit"), progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsError, match="Permission denied"):
        run_sweep(fake_recipe(), tmp_path, progress=False)


def test_two_sweeps_do_not_write_one_folder(tmp_path: Path):
    with RowFile(tmp_path), pytest.raises(ResultsError, match="being written by another sweep"):
        run_sweep(fake_recipe(), tmp_path, progress=False)


def test_clips_of_the_first_text_and_seed_are_kept(tmp_path: Path):
    run_sweep(fake_recipe(axes={"temperature": [0.2, 0.4]}, keep="clips"), tmp_path, progress=False)
    kept = [row["clip"] for row in lines(tmp_path) if row["clip"]]
    assert len(kept) == 2 and len(set(kept)) == 1 == len(list((tmp_path / "clips").iterdir()))  # it sounds the same
    first = next(row for row in lines(tmp_path) if row["clip"])
    sound, rate = soundfile.read(tmp_path / first["clip"], dtype="float32")
    wanted = FakeGenerator().generate(first["text"], seed=first["seed"]).numpy()
    np.testing.assert_allclose(sound, np.clip(wanted, -1, 1), atol=2**-14)
    assert rate == 24_000


def test_engine_options_are_checked():
    for options, message in (
        ({"name": "cluster"}, "engine='cluster': there are local, processes, ray"),
        ({"name": "processes", "workers": 0}, "workers=0"),
        ({"workers": 2}, "use --engine processes"),
        ({"address": "auto"}, "it is for --engine ray"),
    ):
        with pytest.raises(InputError, match=message):
            EngineOptions(**options)


def test_trials_of_a_batch_sound_as_they_do_alone(voice_directory: Path):
    voice = Generator.load(voice_directory, device="cpu")
    texts = ["hello there", "good morning", "yes"]
    settings = [TrialSettings(seed=seed, max_audio_length_ms=480 + 160 * seed) for seed in range(3)]
    together = run_trials_together(voice, texts, settings)
    for text, item, trial in zip(texts, settings, together, strict=True):
        alone = run_trial(voice, text, item)
        np.testing.assert_allclose(trial.audio, alone.audio, atol=1e-4)
        assert trial.seams == [] and "ttfa_ms" not in trial.row
        assert trial.row["n_frames"] == alone.row["n_frames"]
    with pytest.raises(InputError, match="metric 'latency' asks for times"):
        run_trials_together(voice, texts, settings, metrics=["latency"])
    with pytest.raises(InputError, match="2 sets of codec, chunk size and raw_text"):
        run_trials_together(voice, texts[:2], [TrialSettings(), TrialSettings(chunk_frames=2)])


def test_turns_before_are_spoken_by_the_voice_itself_and_read(tmp_path: Path, voice_directory: Path):
    recipe = make_recipe(
        "context",
        {
            "texts": ["one", "two", "three"],
            "n_texts": 3,
            "seeds": [0],
            "metrics": ["codes"],
            "voice": str(voice_directory),
            "keep": "none",
            "axes": {"context_turns": [0, 2], "context": ["sound", "text"], "max_audio_length_ms": 400},
        },
    )
    run_sweep(recipe, tmp_path, progress=False)
    rows = read_rows(tmp_path)
    assert len(rows) == 12 and not any(row["error"] for row in rows)
    frames = {(row["context_turns"], row["context"]): row["context_frames"] for row in rows}
    assert frames[0, "sound"] == frames[0, "text"] == frames[2, "text"] == 0 < frames[2, "sound"]
