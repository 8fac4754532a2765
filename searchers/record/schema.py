"""The words of the record: tags, statuses and event names that a sweep writes and that `analysis` reads.

This module imports nothing, so that both sides can speak the same language without knowing each other.
"""

# Tags of MLflow runs. A run with SWEEP_TAG alone is a sweep's parent; one with TRIAL_TAG, too, is a trial.
SWEEP_TAG = "latentune.sweep"  # the sweep's id
TRIAL_TAG = "latentune.trial"  # Tune's id of the trial
NUMBER_TAG = "latentune.number"  # the trial's number, from 1, as people name it
STATUS_TAG = "latentune.status"  # one of the statuses below
ERROR_TAG = "latentune.error"  # the last line of a failed trial's error
NODE_TAG = "latentune.node"  # address of the node that ran the latest epoch
WHY_TAG = "latentune.why"  # why it did not go on: what the rung where it stopped said of it
FLAGS_TAG = "latentune.flags"  # what looked wrong in training: collapsed, dead_latent_space, …

# Tags of the parent run.
METRIC_TAG, MODE_TAG = "metric", "mode"  # the objective, and "min" or "max"
OBJECTIVES_TAG = "latentune.objectives"  # JSON: all objectives and their modes, where there are several
FRONT_TAG = "latentune.pareto_front"  # numbers of the trials on the Pareto front
MODEL_TAG = "latentune.model"  # the model's class, module:name
RETRAINS_TAG = "latentune.retrains"  # id of the sweep whose settings this one trains again
PROGRAM_TAG = "latentune.program"  # the module that was run, such as searchers.beta_vaegan
FROM_PYTHON = "sweep(study)"  # that tag's value where no module was run
COMMAND_TAG = "latentune.command"  # what was typed
DELIVERED_TAG = "latentune.delivered"  # bytes of the ledger that this store has
REFUSED_TAG = "latentune.refused"  # events that this store refused, for a run in its trash, say
HEARD_TAG = "latentune.heard"  # JSON: how many trials of other sweeps the search learned from, by their names
SHARED_TAG = "latentune.shared"  # JSON: names of the parameters that are its trials', too
ARGUMENTS_TAG = "latentune.arguments"  # JSON: the settings that the command ran with, by field

# Parameters of the parent run. A dimension of the search space is described as JSON.
SPACE_PARAM = "space/"  # followed by the dimension's name
# What a score is of images that no model made, once a data set; by the name that people read.
REFERENCE_PARAM = "reference/"
REFERENCES = {"grey": "grey", "mean image": "mean_image", "real images": "real"}


def reference_param(reference: str, score: str) -> str:
    """Return the parameter that holds a reference's score: "reference/mean_image/fd_efficientnet_lite0".

    reference: a value of REFERENCES; real images are some that trials learn from, against the others.
    """
    return f"{REFERENCE_PARAM}{reference}/{score}"


# Settings that say where a training runs and which one of several it is, not what its scores are of.
OF_THIS_RUN = {
    "seed",
    "data_root",
    "cache_dir",
    "feature_weights",
    "images",
    "processes",
    "compile",
    "precision",
    "channels_last",
}
# Where images and weights lie: a resumed sweep may find them elsewhere, and MLflow keeps the first place.
WHERE = frozenset(("dataset", "data_root", "feature_weights"))
# Trials that differ in these see other images, have other scores or another budget.
SHARED = frozenset(
    (
        "dataset",
        "dataset_limit",
        "crop",
        "data_root",
        "cache_dir",
        "image_size",
        "channels",
        "data_hash",
        "features",
        "feature_identity",
        "feature_weights",
        "scores_hash",
        "evaluation_samples",
        "evaluate_every",
        "epochs",
        "images",
        "model",
        "seed",
    )
)

# Artifacts: of the parent run, and of trials' runs.
POSTERIOR_FILE = (
    "posterior.json"  # what the searcher believed at the end: final scores; a curve over each number
)
WEIGHTS_FOLDER, IMAGES_FOLDER = "model", "images"

# What became of a trial. A resumed sweep runs again what has no end.
FINISHED, STOPPED, DIVERGED, FAILED = "finished", "stopped", "diverged", "failed"
RUNNING = "running"
INTERRUPTED = "interrupted"  # without an end in a sweep that does not run; never written

# A flag of a trial whose images are all alike.
COLLAPSED = "collapsed"

# Events of the ledger.
TRIAL, RESULT, CHECKPOINT, END = "trial", "result", "checkpoint", "end"
MODEL, FIGURE, NOTE = "model", "figure", "note"
HEARD = "heard"  # what another sweep of the study told, by `--share`
# The status of a sweep in its notes, as MLflow names it; a resumed one runs again.
RESUMED, COMPLETE, KILLED = "RUNNING", "FINISHED", "KILLED"
