"""What ``tune.run`` and Optuna take, and a search here cannot."""

from __future__ import annotations

_TABLE = "the search shows its own table of trials, and writes results.csv"
_OF_TRAINING = "the training arguments say when a trial saves for itself: save_strategy, save_steps"
_FOLDERS = "a trial's folder is its number, in trials/"
_STUDY = "the search's folder keeps the study; resume=True goes on with it"
REFUSED: dict[str, tuple[str, str]] = {
    "config": ("the space is hp_space", "hp_space=lambda _: {...}"),
    "num_samples": ("it is called n_trials", "n_trials=20"),
    "run_or_experiment": ("a trial is a training of this trainer", "nothing"),
    "local_dir": ("Ray has dropped it", "storage_path=..."),
    "checkpoint_freq": ("it is for Trainables that save by themselves", _OF_TRAINING),
    "checkpoint_at_end": ("the best trials are saved in any case", "keep=how many"),
    "chdir_to_trial_dir": ("a trial works in the driver's folder", "nothing"),
    "export_formats": ("trials save checkpoints of transformers", "run_summary.checkpoint of the result"),
    "fail_fast": ("a trial that fails stops no other", "raise_on_failed_trial=True to hear of it at the end"),
    "log_to_file": ("what trials print is in Ray's logs", "nothing"),
    "progress_reporter": (_TABLE, "nothing"),
    "restore": ("a trial goes on from its own checkpoint", "resume=True"),
    "resume_config": ("unfinished trials and failed ones go on", "resume=True"),
    "reuse_actors": ("trials of one worker share processes, others do not", "nothing"),
    "sync_config": ("everything is written to the storage as it comes", "nothing"),
    "trial_dirname_creator": (_FOLDERS, "hp_name=function that names trials"),
    "trial_name_creator": (_FOLDERS, "hp_name=function that names trials"),
    "verbose": (_TABLE, "nothing"),
    "pruner": ("Ray Tune's schedulers stop trials here", "scheduler=ASHAScheduler()"),
    "storage": (_STUDY, "nothing"),
    "study_name": (_STUDY, "name=..."),
    "load_if_exists": (_STUDY, "resume=True"),
    "catch": ("a trial that fails ends no search", "nothing"),
    "gc_after_trial": ("each trial's process does so", "nothing"),
    "n_jobs": ("Ray has the processes", "max_concurrent_trials=..."),
    "timeout": ("it is called time_budget_s", "time_budget_s=..."),
}
"""Arguments of ``tune.run`` and of Optuna that cannot be right here: why, and what to write instead."""
