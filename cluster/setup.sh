#!/usr/bin/env bash
# Prepares a machine of a cluster: the environment from requirements.lock, the token, commands that find both.
# A second call changes nothing. PYTHON names another interpreter than python3.11.
set -euo pipefail
cd ~/latentune
python="${PYTHON:-python3.11}"

if [ ! -x .venv/bin/python ]; then
    command -v "$python" > /dev/null || {
        echo "latentune: $(hostname) has no $python; install it (Debian: apt-get install python3.11-venv)" >&2
        exit 1
    }
    "$python" -m venv .venv
    rm -f installed.lock
fi
if ! cmp --silent requirements.lock installed.lock; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
    cp requirements.lock installed.lock
fi

# The head makes the token, once; the workers have been given the head's.
umask 077
mkdir -p ~/.ray
chmod 700 ~/.ray
[ -s ~/.ray/auth_token ] || .venv/bin/ray get-auth-token --generate > /dev/null
chmod 600 ~/.ray/auth_token

# `ray exec` runs `bash -c`, which sets BASH_EXECUTION_STRING; a person's own shell stays as it is.
hook='[ -z "${BASH_EXECUTION_STRING:-}" ] || . ~/latentune/cluster/environment.sh'
touch ~/.bashrc
grep --quiet --fixed-strings --line-regexp "$hook" ~/.bashrc || echo "$hook" >> ~/.bashrc
