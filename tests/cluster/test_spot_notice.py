"""A cloud's notice of a spot machine's end reaches Ray, from a metadata service that answers as theirs do."""

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.fixtures.waits import PATIENCE

SCRIPT = Path(__file__).resolve().parents[2] / "cluster/spot_notice.sh"


class Metadata(BaseHTTPRequestHandler):
    """Amazon's and Google's service; the notice is there at the third question."""

    def log_message(self, *arguments):
        pass

    def answer(self, code, text):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(200 if wanted else 404, "secret")

    def do_GET(self):
        self.server.asked += 1
        due = self.server.asked >= 3
        if self.path == "/latest/meta-data/spot/instance-action":
            allowed = self.headers["X-aws-ec2-metadata-token"] == "secret"
            action = '{"action": "terminate", "time": "2026-11-30T08:22:00Z"}'
            self.answer(200 if due and allowed else 404 if allowed else 401, action if due else "none")
        elif self.path == "/computeMetadata/v1/instance/preempted":
            allowed = self.headers["Metadata-Flavor"] == "Google"
            self.answer(200 if allowed else 403, "TRUE" if due and allowed else "FALSE")
        else:
            self.answer(404, "no such page")


@pytest.mark.parametrize(("cloud", "seconds"), [("aws", "120"), ("gcp", "30")])
def test_a_notice_drains_the_node(tmp_path, cloud, seconds):
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/told\n')
    ray.chmod(0o755)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.asked = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "METADATA": f"http://127.0.0.1:{server.server_port}",
            "INTERVAL": "0.1",
            "RAY_ADDRESS": "10.0.0.1:6379",
            "no_proxy": "*",
        }
        done = subprocess.run(["bash", SCRIPT, cloud], env=environment, timeout=PATIENCE)
        server.shutdown()
    assert done.returncode == 0 and server.asked == 3
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:3] == ["drain-node", "--address", "10.0.0.1:6379"]
    assert dict(zip(told[1::2], told[2::2], strict=True)) == {
        "--address": "10.0.0.1:6379",
        "--reason": "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message": "spot notice",
        "--deadline-remaining-seconds": seconds,
    }


def test_another_cloud_is_refused():
    done = subprocess.run(["bash", SCRIPT, "azure"], capture_output=True, text=True)
    assert done.returncode == 2 and "aws or gcp" in done.stderr
