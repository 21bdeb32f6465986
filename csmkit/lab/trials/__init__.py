"""Trials: a text spoken once with certain settings, and all that was measured of it as one row."""

from csmkit.lab.trials.trial import Trial, TrialRun, TrialSettings, run_trial, run_trials
