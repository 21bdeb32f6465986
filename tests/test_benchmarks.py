"""The benchmarks run at a small size and report what they say; the tables of the pages are those of the results."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from csmkit.csm.config import CsmConfig, TransformerConfig
from csmkit.errors import DeviceError, InputError, StateError
from csmkit.speech.generator import Generator
from csmkit.timing import Arrivals
from experiments.benchmarks import (
    codec,
    frame,
    full_size,
    gpu,
    gpu_checks,
    growth,
    load,
    reproducibility,
    rounding,
    tables,
)

ROOT = Path(__file__).parents[1]


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {"cpu", "threads", "torch", "gpu", "date", "commit"} <= set(report["environment"])
    return report


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments.split()])
    module.main()


def test_frame_compares_the_same_codes(monkeypatch, capsys, tmp_path: Path):
    saved = tmp_path / "frame.json"
    run(frame, monkeypatch, f"--sizes tiny --modes eager static --frames 6 --repeats 2 --save {saved}")
    report = last_line(capsys)
    assert report == json.loads(saved.read_text()) and len(report["rows"]) == 6
    for row in report["rows"]:
        assert row["codes_equal"] is (True if row["sampling"] == "greedy" else None)
        assert row["min_ms"] <= row["median_ms"]
        assert row["engine"] != "transformers" or row["speedup"] == 1
    assert {row["engine"] for row in report["rows"]} == {"transformers", "csmkit eager", "csmkit static"}


def test_full_size_compares_engines_with_transformers_at_a_small_size(monkeypatch, capsys, tmp_path: Path):
    how = "--engines eager:float32@1 int4@1 --frames 3 --repeats 1"
    run(full_size, monkeypatch, f"--size few {how} --folder {tmp_path}")
    report = last_line(capsys)
    engines = [(row["engine"], row["dtype"]) for row in report["rows"]]
    assert engines == [
        ("transformers", "float32"),
        ("eager", "float32"),
        ("transformers", "bfloat16"),
        ("int4", "bfloat16"),
    ]
    for row in report["rows"]:
        assert row["frame_ms"] > 0 and row["peak_mib"] > 100 and row["load_s"] > 0
        assert (row["rtf"] is None) == (row["engine"] == "transformers")
    (tmp_path / "full_size.json").write_text(json.dumps(report))
    assert "| int4, bfloat16 | 1 |" in tables.speed(tmp_path)


def test_an_engine_is_read_from_its_name_or_refused():
    assert full_size.Engine.parse("eager:float32@2") == ("eager", "float32", 2)
    assert full_size.Engine.parse("int4@1").reference == ("transformers", "bfloat16", 1)
    with pytest.raises(InputError, match="engine 'int4@many': give MODE"):
        full_size.Engine.parse("int4@many")


def test_the_first_frame_of_csm_1b_s_vocabularies_and_codec_runs_on_a_cpu(capsys):
    small = "--size few --device cpu --modes eager --rows 24 --late 40 --frames 3 --repeats 1 --batches 2 --copy-mib 4"
    gpu.main(small.split())
    assert [row["batch"] for row in last_line(capsys)["rows"]] == [1, 2]


def test_rounding_compares_variants_of_a_voice_and_their_logits(monkeypatch, capsys):
    run(rounding, monkeypatch, "--variants float32 int8 --texts 2 --seeds 2 --whisper tiny.en")
    report = last_line(capsys)
    assert [row["variant"] for row in report["rows"]] == ["float32", "int8"] and len(report["weights"]) == 16
    assert all(row["n"] == 4 and 0 <= row["ended_percent"] <= 100 for row in report["rows"])
    run(rounding, monkeypatch, "--logits tiny --variants float32 float32 bfloat16 --frames 3")
    same, other = last_line(capsys)["rows"]
    assert same["others: error"] == 0 and same["others: same"] == 1
    assert 0 < other["others: error"] < 0.1


def test_codec_compares_all_decoders(monkeypatch, capsys):
    run(codec, monkeypatch, "--size pocket --frames 5")
    rows = last_line(capsys)["rows"]
    assert rows[0]["decoder"] == "csmkit float32" and rows[0]["times_csmkit"] == 1.0
    assert all(row["median_ms"] > 0 for row in rows) and len(rows) >= 3


def test_growth_measures_positions_turns_batches_and_memory(monkeypatch, capsys, voice_directory: Path):
    small = "--positions 20 200 --turns 0 2 --batches 1 3 --frames 4 --repeats 2 --no-full-width"
    run(growth, monkeypatch, f"--voice {voice_directory} {small}")
    report = last_line(capsys)
    names = [row["figure"] for row in report["rows"]]
    assert names[:2] == ["frame at position 20", "frame at position 200"]
    assert names[2:] == [
        "first audio after 0 turns",
        "first audio after 2 turns",
        "first audio after 2 turns that were read ahead",
    ]
    assert report["rows"][0]["ratio"] == report["rows"][2]["ratio"] == 1.0
    assert [row["figure"] for row in report["throughput"]] == ["batch of 1", "batch of 3"]
    assert report["peak_memory_mib"] > 50


def test_history_is_read_once_in_the_growth_benchmark(voice_directory: Path, monkeypatch: pytest.MonkeyPatch):
    generator = Generator.load(voice_directory, device="cpu")
    segments_of: list[int] = []
    speak = generator.speak

    def watched(request, schedule):
        segments_of.append(len(request.context))
        return speak(request, schedule)

    monkeypatch.setattr(generator, "speak", watched)
    growth.history(generator, [0, 2], 1)
    assert segments_of == [0, 2, 2, 0, 2, 2], "a round to warm up, and one that counts"


def test_gpu_runs_whole_at_a_small_size(capsys):
    small = "--size tiny --device cpu --rows 24 --late 120 --frames 25 --repeats 2 --batches 1 3 --copy-mib 4"
    gpu.main([*small.split(), "--modes", "eager", "static", "graph"])
    report = last_line(capsys)
    measured = [(row["mode"], row["batch"]) for row in report["rows"]]
    assert measured == [(mode, batch) for mode in ("eager", "static") for batch in (1, 1, 3)]
    assert report["copy_gb_per_s"] > 0
    for row in report["rows"]:
        alone = row["frame_ms"] is not None
        assert not alone or row["times_real_time"] == pytest.approx(80 / row["frame_ms"], rel=0.05)
        assert (row["first_audio_ms"] is None) == (row["frame_ms"] is None)


def test_gpu_says_so_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="give --device cpu --size tiny"):
        gpu.main([])


def test_a_frame_of_csm_1b_reads_what_its_sizes_say():
    backbone = TransformerConfig(2048, 16, 32, 8, 64, 8192, 2048)
    depth = TransformerConfig(1024, 4, 8, 2, 128, 8192, 33)
    config = CsmConfig(backbone, depth, 128_256, 2051, 32, 2048)
    assert gpu.bytes_a_frame(config, 2) == pytest.approx(9.1e9, rel=0.02)  # some 9.1 GB, whence 1.9 ms on an H200


@pytest.mark.results
@pytest.mark.parametrize("name", tables.PAGES)
def test_the_tables_of_the_pages_are_those_of_the_results(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1
    assert tables.written(name) == text, "run: python -m experiments.benchmarks.tables --write"


@pytest.mark.results
def test_the_readme_has_five_figures_with_the_real_size_first():
    rows = tables.headlines().splitlines()[2:]
    assert len(rows) == 5 and rows[0].startswith("| CSM-1B's size")


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="a page without <!-- speed -->"):
        tables.inserted("# A page\n", "a table\n")


@pytest.mark.results
def test_the_last_line_of_all_benchmarks_is_json(monkeypatch, capsys):
    run(tables, monkeypatch, "")
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(last) == set(tables.SECTIONS)
    assert last["pocket"]["frame_median_ms"] > 0 and "rows" not in last["pocket"]


@pytest.mark.results
def test_a_benchmark_without_a_result_says_so(tmp_path: Path):
    text = tables.speed(tmp_path)
    assert text.count("ot measured yet") == len(tables.SECTIONS)
    assert tables.headlines(tmp_path).count("not measured yet") == 5
    made = json.loads((tables.RESULTS / "pocket.json").read_text(encoding="utf-8"))
    made["table"][0]["p50"] = 123.456
    (tmp_path / "pocket.json").write_text(json.dumps(made))
    assert "| 123.46 |" in tables.speed(tmp_path)


def test_gpu_checks_run_whole_at_a_small_size(capsys, tmp_path: Path):
    small = f"--size tiny --device cpu --mode static --frames 5 --save {tmp_path / 'checks.json'}"
    assert gpu_checks.main(small.split()) == 0
    rows = last_line(capsys)["rows"]
    assert [row["check"] for row in rows] == list(gpu_checks.CHECKS)
    assert all(row["found"].startswith("ok") for row in rows), rows
    with pytest.raises(DeviceError, match="no CUDA device"):
        gpu_checks.main([])


def test_gpu_checks_say_what_failed(capsys, monkeypatch):
    def spoiled(bench: gpu_checks.Bench) -> str:
        raise RuntimeError("an illegal memory access\nand more")

    monkeypatch.setitem(gpu_checks.CHECKS, "dropped", spoiled)
    draws = iter(range(100))
    monkeypatch.setattr(gpu_checks.Bench, "speak", lambda *_: torch.full((2, 3), next(draws)))
    asked = "--size tiny --device cpu --mode static --checks parity refusal dropped"
    assert gpu_checks.main(asked.split()) == 1
    assert [row["found"] for row in last_line(capsys)["rows"]] == [
        "the same utterance has other codes once it is recorded or launched",
        "other codes after a refusal",
        "RuntimeError: an illegal memory access",
    ]
    monkeypatch.undo()
    assert gpu_checks.main(["--size", "tiny", "--device", "cpu", "--mode", "graph", "--checks", "parity"]) == 1
    assert "mode 'graph' is not available on cpu" in last_line(capsys)["rows"][0]["found"]


def test_reproducibility_tells_what_changes_the_codes(capsys, voice_directory: Path):
    small = f"--voice {voice_directory} --seeds 1 --length-ms 400 --dtypes float32 bfloat16"
    threads = torch.get_num_threads()
    reproducibility.main(small.split())
    rows = last_line(capsys)["rows"]
    torch.set_num_threads(threads)
    assert len(rows) == 12 and {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    for row in rows:
        assert row["utterances"] == 4 and (row["first frame"] is None) == (row["differ"] == 0)
        never = ("nothing", "chunk size", "history")
        assert not row["changed"].startswith(never) or row["differ"] == 0, row
    assert all(row["differ"] == 0 for row in rows if row["dtype"] == "float32")


def test_reproducibility_finds_the_first_frame_that_differs():
    one = torch.arange(12).view(2, 6)
    other = one.clone()
    other[1, 3] += 1
    assert reproducibility.first_difference(one, one.clone()) is None
    assert reproducibility.first_difference(one, other) == 4
    assert reproducibility.first_difference(one, one[:, :5]) == 6
    found = reproducibility.difference([one, one, one], [one, other, one[:, :2]])
    assert found == {"differ": 2, "utterances": 3, "first frame": 3}


def test_load_serves_listeners_at_once_and_at_random(monkeypatch, capsys, tmp_path: Path):
    saved = tmp_path / "load.json"
    loads = "--speed 2 --listeners 2 --rates 20 10000 --streams 2 --seconds 0.3 --speech-s 0.4"
    run(load, monkeypatch, f"--sizes tiny --device cpu {loads} --save {saved}")
    report = last_line(capsys)
    assert report == json.loads(saved.read_text())
    kinds = [row["load"] for row in report["rows"]]
    assert kinds[:3] == ["speed", "listeners", "arrivals"]
    for row in report["rows"]:
        assert row["n_requests"] >= 2 and row["first_ms_p50"] <= row["first_ms_p95"] <= row["first_ms_p99"]
        assert row["audio_s"] == pytest.approx(0.4 * (row["n_requests"] - row["n_refused"]), abs=0.06)
    assert "Many listeners at once" in tables.load(report)


def test_a_listener_s_first_sound_and_its_gaps_are_counted():
    listener = load.Listener(0.0, Arrivals([0.5, 0.7], [0.1, 0.3]))
    silent, loud = np.zeros(2400, np.float32), np.full(7200, 0.5, np.float32)
    listener.chunks = [silent, loud]
    assert listener.n_underruns == 1 and listener.audible_s == pytest.approx(0.7)
    listener.chunks = [silent, 0 * loud]
    assert listener.audible_s is None


def test_a_rate_is_carried_if_nobody_waited_was_refused_or_failed():
    row = {"n_underruns": 0, "n_refused": 0, "n_failed": 0}
    assert load.is_carried(row)
    assert not any(load.is_carried(row | {name: 1}) for name in row)


def test_a_stream_that_fails_is_counted_and_not_taken_for_a_short_one():
    def stream():
        yield torch.zeros(1920)
        raise StateError("the model was closed")

    shared = SimpleNamespace(speak=lambda request, schedule: stream())
    listener = load.Listener(time.perf_counter())
    listener.listen(shared, None, plays=False)
    assert listener.failed and len(listener.arrivals) == 1
