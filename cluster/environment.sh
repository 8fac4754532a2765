# Sourced on each machine of a cluster before anything else runs there (bash).
export PATH="$HOME/latentune/.venv/bin:$PATH"
export PYTHONPATH="$HOME/latentune"
export RAY_USAGE_STATS_ENABLED=0

# Without the token in ~/.ray/auth_token nobody gets a word out of the cluster's ports.
export RAY_AUTH_MODE=token

# A worker whose head is gone ends after this many seconds (Ray's default: 60). The head itself gives a silent
# worker up after 45 s, so a longer patience would only keep GPUs busy for nobody.
export RAY_gcs_rpc_server_reconnect_timeout_s=20

# Where memory runs out, the kernel ends the trial that uses most; Ray would end the one that began its epoch last.
export RAY_memory_monitor_refresh_ms=0

# `ray start` leaves this file, `ray stop` removes it: commands join the cluster of this machine, if it runs.
if [ -s /tmp/ray/ray_current_cluster ]; then
    RAY_ADDRESS="$(cat /tmp/ray/ray_current_cluster)"
    export RAY_ADDRESS
fi
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000

# Each trial, connection and log file takes descriptors; the usual 1024 end at some dozen trials.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"
