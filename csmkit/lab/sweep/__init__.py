"""Parameter sweeps: recipes, the plan of trials, engines that run it, and the rows that are kept."""

from csmkit.lab.sweep.engines import EngineOptions
from csmkit.lab.sweep.recipe import Recipe, load_recipe, make_recipe
from csmkit.lab.sweep.row_file import read_rows
from csmkit.lab.sweep.runner import SweepSummary, merge_rows, run_sweep
