"""The cluster files: valid by Ray's own schema, alike where they should be, closed where they must be."""

import copy
import functools
import importlib.util
import operator
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import jsonschema
import pytest
import tyro
import yaml

from cluster import connect
from cluster.connect import Cluster, Node
from cluster.errors import ClusterError
from cluster.kuberay import ray_job
from cluster.tracking import TrackingConfig
from searchers import beta_vaegan
from searchers.record.ledger import Ledger
from searchers.record.schema import FINISHED, STOPPED
from tests.cluster.conftest import ship_code
from tests.fixtures.waits import PATIENCE, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ["ray_cluster.yaml", "cluster/aws.yaml", "cluster/gcp.yaml"]


def fields(required: str = "", **types) -> dict:
    """Return the JSON schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": types,
        "required": required.split(),
        "additionalProperties": False,
    }


# The fields of KubeRay 1.6's RayCluster, after its API reference; the resource definition itself is on no
# package registry. Pod templates are Kubernetes' own.
TEXT, NUMBER, SWITCH, ANY = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "object"}
LIST, TEXTS = {"type": "array"}, {"type": "object", "additionalProperties": TEXT}
POD_GROUP = {"rayStartParams": TEXTS, "template": ANY, "resources": TEXTS, "labels": TEXTS}
HEAD_GROUP = {"headService": ANY, "enableIngress": SWITCH, "serviceType": TEXT}
SIZES = {"replicas": NUMBER, "minReplicas": NUMBER, "maxReplicas": NUMBER, "numOfHosts": NUMBER}
WORKER_GROUP = SIZES | {
    "groupName": TEXT, "suspend": SWITCH, "idleTimeoutSeconds": NUMBER, "scaleStrategy": ANY,
}  # fmt: skip
AUTOSCALER = fields(
    version={"enum": ["v1", "v2"]},
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    idleTimeoutSeconds=NUMBER,
    **dict.fromkeys(("image", "imagePullPolicy"), TEXT),
    **dict.fromkeys(("resources", "securityContext"), ANY),
    **dict.fromkeys(("env", "envFrom", "volumeMounts"), LIST),
)
RAY_CLUSTER = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}, secretName=TEXT, enableK8sTokenAuth=SWITCH),
    enableInTreeAutoscaling=SWITCH,
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=fields("template", **POD_GROUP, **HEAD_GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": fields("groupName template minReplicas maxReplicas", **POD_GROUP, **WORKER_GROUP),
    },
    gcsFaultToleranceOptions=ANY,
    headServiceAnnotations=TEXTS,
    managedBy=TEXT,
    suspend=SWITCH,
)


def read(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_s_schema_accepts(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read(name)
    validate_config(config)
    validate_config(prepare_config(config))


def test_the_schema_refuses_a_misspelt_key():
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(Exception, match="setup_command"):
        validate_config(read("ray_cluster.yaml") | {"setup_command": []})


@pytest.mark.parametrize("name", FILES)
def test_what_is_shipped_exists(name):
    for target, source in read(name)["file_mounts"].items():
        assert (REPOSITORY / source).exists()
        assert target == f"~/latentune/{source}"


@pytest.mark.parametrize("name", FILES)
def test_all_code_is_shipped(name):
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert set(build["targets"]["wheel"]["only-include"]) <= set(read(name)["file_mounts"].values())


@pytest.mark.parametrize("name", FILES[1:])
def test_clouds_are_set_up_as_own_machines_are(name):
    own, cloud = read("ray_cluster.yaml"), read(name)
    for key in ("file_mounts", "rsync_exclude", "cluster_synced_files"):
        assert cloud[key] == own[key]
    *start, notice = cloud["worker_start_ray_commands"]
    assert start == own["worker_start_ray_commands"] and f"spot_notice.sh {Path(name).stem} " in notice
    assert cloud["head_start_ray_commands"][-1] == own["head_start_ray_commands"][-1]
    assert "RAY_enable_autoscaler_v2=0" not in (REPOSITORY / name).read_text()  # only the local provider's


@pytest.mark.parametrize("name", FILES)
def test_every_start_command_has_the_token_and_loopback(name):
    config = read(name)
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all(command.startswith("source ~/latentune/cluster/environment.sh && ") for command in commands)
    assert "export RAY_AUTH_MODE=token" in (REPOSITORY / "cluster/environment.sh").read_text()
    (start,) = [command for command in commands if "ray start --head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert not re.search(r"0\.0\.0\.0", (REPOSITORY / name).read_text())


@pytest.mark.parametrize("name", FILES[1:])
def test_cloud_workers_are_spot_gpus_and_the_head_runs_no_trial(name):
    config = read(name)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"] == config["max_workers"]
    assert "spot" in str(types["gpu"]["node_config"]).lower()


@pytest.fixture
def kuberay() -> list[dict]:
    """What `kubectl apply -f cluster/kuberay.yaml` sends: a volume claim and a RayCluster."""
    return list(yaml.safe_load_all((REPOSITORY / "cluster/kuberay.yaml").read_text()))


def check_kuberay(claim: dict, cluster: dict) -> None:
    """Raise ValidationError where Kubernetes or KubeRay would refuse it."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate (make install)")
    spec = cluster["spec"]
    jsonschema.validate(spec, RAY_CLUSTER)
    pods = [{"apiVersion": "v1", "kind": "Pod"} | group["template"] for group in groups(spec)]
    for resource in (claim, *pods):
        kubernetes.validate(resource, kubernetes.latest_version(), strict=True)


def groups(spec: dict) -> list[dict]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_kubernetes_and_kuberay_accept(kuberay):
    check_kuberay(*kuberay)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["authOption"], {"mode": "token"}),
        (["autoscalerOptions", "version"], 2),
        (["headGroupSpec", "rayStartParams", "num-cpus"], 0),
        (["workerGroupSpecs", 0, "minReplica"], 0),
        (["workerGroupSpecs", 0, "template", "spec", "containers", 0, "volumeMount"], []),
        (["headGroupSpec", "template", "spec", "containers", 0, "resources", "limit"], {}),
    ],
)
def test_kubernetes_or_kuberay_refuses_a_misspelt_key_or_a_wrong_type(kuberay, place, value):
    *above, name = place
    functools.reduce(operator.getitem, above, kuberay[1]["spec"])[name] = value
    with pytest.raises(Exception, match=re.escape(repr(value) if name in ("version", "num-cpus") else name)):
        check_kuberay(*kuberay)


def test_kubernetes_gets_what_ray_cluster_asks_for(kuberay):
    claim, cluster = kuberay
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    pinned = re.search(r"^ray(?:\[tune\])?==(.*)$", (REPOSITORY / "requirements.lock").read_text(), re.M)
    assert spec["rayVersion"] == pinned[1]
    for group in groups(spec):
        template = group["template"]["spec"]
        volumes = {volume["name"] for volume in template["volumes"]}
        for container in template["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert "memory" in container["resources"]["limits"]
    assert claim["metadata"]["name"] in str(groups(spec))
    (tracking,) = (c for c in groups(spec)[0]["template"]["spec"]["containers"] if c["name"] == "tracking")
    assert TrackingConfig(Path("/data/tracking"), wait=True) == tyro.cli(
        TrackingConfig, args=tracking["command"][3:]
    )  # a RayJob's cluster beside this one has the same claim
    worker = spec["workerGroupSpecs"][0]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]


# KubeRay 1.6's RayJob, likewise.
RAY_JOB = fields(
    "entrypoint",
    **dict.fromkeys(("entrypoint", "runtimeEnvYAML", "jobId", "entrypointResources", "managedBy"), TEXT),
    **dict.fromkeys(("shutdownAfterJobFinishes", "suspend"), SWITCH),
    **dict.fromkeys(("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"), NUMBER),
    **dict.fromkeys(("submitterPodTemplate", "submitterConfig", "metadata", "deletionStrategy"), ANY),
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    rayClusterSpec=RAY_CLUSTER,
    clusterSelector=TEXTS,
)


def test_a_command_line_is_a_job_that_kubernetes_and_kuberay_accept(kuberay, capsys):
    words = ["--on", "kuberay", "--preset", "quick", "--results", "/data/results", "--set", "recipe=larsen"]
    assert beta_vaegan.main([*words, "--name", "My sweep_1", "--space", "gamma=uniform(0.1,1)"]) == 0
    claim, job = yaml.safe_load_all(capsys.readouterr().out)
    spec = job["spec"]
    jsonschema.validate(spec, RAY_JOB)
    check_kuberay(claim, {"spec": spec["rayClusterSpec"]})
    assert claim == kuberay[0]
    own = kuberay[1]["spec"]
    own["headGroupSpec"]["rayStartParams"]["dashboard-host"] = (
        "0.0.0.0"  # the operator asks it, with the token
    )
    assert spec["rayClusterSpec"] == own and own["authOptions"] == {"mode": "token"}
    assert job["kind"] == "RayJob"
    # As the operator has it typed: the whole of it must reach `ray job submit`, and nothing else may run.
    typed = f"submit() {{ printf '%s\\0' \"$@\"; }}; cd() {{ echo here; }}; submit -- {spec['entrypoint']} ;"
    said = subprocess.run(["bash", "-ce", typed], capture_output=True, text=True, check=True).stdout
    assert said.split("\0")[:-1] == [
        *("--", "env", "-C", "/home/ray/latentune"),
        *("python", "-m", "searchers.beta_vaegan", *words[2:], "--name", "My sweep_1"),
        *("--space", "gamma=uniform(0.1,1)"),
    ]


@pytest.mark.parametrize("name", ["My sweep_1", "my-sweep-1", "a" * 60, "___"])
def test_a_job_has_a_name_that_kuberay_takes_and_no_other_job_has(name):
    jobs = [ray_job(name, ["python"], "/data/results")[1] for _ in range(2)]
    first, second = (job["metadata"]["name"] for job in jobs)
    assert first != second and first[:-4] == second[:-4]
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])", first) and len(first) <= 47


@pytest.mark.parametrize(
    "flags", [[], ["--storage=s3://b"], ["--results", "/data/../results"], ["--results=/dat"]]
)
def test_a_job_whose_record_would_go_with_the_pods_is_refused(flags, capsys):
    assert beta_vaegan.main(["--on", "kuberay", "--preset", "quick", *flags]) == 2
    assert "--results /data/results keeps them" in capsys.readouterr().err


def test_kubernetes_workers_are_promised_to_a_sweep_that_begins_before_them(kuberay, monkeypatch):
    (group,) = kuberay[1]["spec"]["workerGroupSpecs"]
    size = group["template"]["spec"]["containers"][0]["resources"]
    worker = Node(float(size["requests"]["cpu"]), float(size["limits"]["nvidia.com/gpu"]))
    head = kuberay[1]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    (said,) = [each["value"] for each in head["env"] if each["name"] == connect.PROMISED]
    monkeypatch.setenv(connect.PROMISED, said)
    cluster = Cluster("10.0.0.1:6379", (Node(0, 0),), connect._promised())
    assert cluster.promised == (Node(0, 0), *[worker] * group["maxReplicas"])
    assert cluster.slots(1, 1) == group["maxReplicas"]
    for wrong in ("8", "8x4", "8x4:.", "eightx4:1"):
        monkeypatch.setenv(connect.PROMISED, wrong)
        with pytest.raises(ClusterError, match="it must be NODESxCPUS:GPUS, as 8x4:1"):
            connect._promised()


def test_what_is_typed_to_end_kubernetes_leaves_the_results(kuberay):
    claim = kuberay[0]["metadata"]["name"]
    for path in ("cluster/kuberay.yaml", "docs/howto/cluster.md"):
        text = re.sub(r"\\\n# *", "", (REPOSITORY / path).read_text())  # lines that go on
        typed = re.findall(r"(?m)^#? *(kubectl .*)$", text)
        assert "kubectl delete raycluster latentune" in typed
        assert not [line for line in typed if "delete -f" in line or f"delete pvc {claim}" in line]
        (sweep,) = (line for line in typed if "searchers." in line)
        assert "--results /data/results" in sweep


# SkyPilot 0.14's fields, after its schema; the package itself is not among those that the tests install.
MAYBE_TEXTS = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
SKY_RESOURCES = fields(
    accelerators={"type": "object", "additionalProperties": {"type": "number"}},
    **dict.fromkeys(("infra", "instance_type", "cpus", "memory", "image_id"), TEXT),
    **dict.fromkeys(("use_spot",), SWITCH),
    disk_size=NUMBER,
)
SKY_TASK = fields(
    num_nodes=NUMBER,
    resources=SKY_RESOURCES,
    file_mounts=TEXTS,
    **dict.fromkeys(("envs", "secrets"), MAYBE_TEXTS),
    **dict.fromkeys(("name", "workdir", "setup", "run"), TEXT),
)


def check_skypilot(task: dict) -> None:
    """Raise an error where SkyPilot, which is asked where it is installed, would refuse the task."""
    jsonschema.validate(task, SKY_TASK)
    if importlib.util.find_spec("sky"):
        with warnings.catch_warnings(action="ignore"):  # of its own packages
            import sky

        given = {name: [(key, "x") for key in task[name]] for name in ("envs", "secrets")}
        sky.Task.from_yaml_config(
            copy.deepcopy(task), env_overrides=given["envs"], secrets_overrides=given["secrets"]
        )


def test_skypilot_accepts():
    task = read("cluster/skypilot.yaml")
    check_skypilot(task)
    assert task["file_mounts"] == read("ray_cluster.yaml")["file_mounts"]
    for key, value in (("num_node", 3), ("setup", ["true"]), ("resources", {"accelerator": "L4:1"})):
        with pytest.raises(Exception, match=r"num_node|true|accelerator"):
            check_skypilot(task | {key: value})


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_skypilot_s_machines_run_a_sweep(network):
    """What SkyPilot runs on each machine, with the variables that it sets there."""
    head, *_ = network.machines
    task = read("cluster/skypilot.yaml")
    flags = "--preset quick --dataset-limit 60 --image-size 16 --width 0.1 --batch-size 16 --replicates 0"
    flags += " --evaluation-samples 20 --features random --num-samples 6 --epochs 2 --name sky"
    given = {
        "RAY_AUTH_TOKEN": "0" * 64,
        "SWEEP": f"searchers.beta_vaegan {flags}",
        "STORAGE": "/mnt/shared/sky",
        "SKYPILOT_NODE_IPS": "\n".join(machine.address for machine in network.machines),
    }
    size = "ray start --num-cpus=1 --object-store-memory=80000000"
    script = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in given.items())
    script += f"\n{task['run'].replace('ray start', size)}"
    for rank, machine in reversed(list(enumerate(network.machines))):
        ship_code(machine)
        (machine.folder / "home/run.sh").write_text(script)
        command = f"SKYPILOT_NODE_RANK={rank} OMP_NUM_THREADS=1 bash ~/run.sh"
        if rank:
            machine.run(f"({command} > ~/run.log 2>&1 &)")
    said = " ".join(head.run(command, timeout=PATIENCE).stdout.split())
    assert "Ray cluster at 10.77.0.10:6379" in said
    trials = Ledger(head.folder / "home/latentune/results/sky/ledger.jsonl").trials()
    assert len(trials) == 6 and {record.status for record in trials.values()} <= {FINISHED, STOPPED}
    count = 'import ray; ray.init(log_to_driver=False); print("nodes", sum(n["Alive"] for n in ray.nodes()))'
    (head.folder / "home/count.sh").write_text(script.partition("start=")[0] + f"\npython -c '{count}'")
    wait_until(lambda: "nodes 3" in head.run("bash ~/count.sh").stdout)
    assert "Ray runs here already." in head.run("SKYPILOT_NODE_RANK=0 bash ~/run.sh", check=False).stdout
    for machine in network.machines:
        machine.kill()
        machine.boot(network)


@pytest.fixture
def ec2(tmp_path, monkeypatch):
    """A pretended EC2 on this machine."""
    pytest.importorskip("moto", reason="needs moto and boto3 (make install)")
    pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "moto.log").open("wb") as log:
        called = [sys.executable, "-m", "moto.server", "-p", str(port)]
        server = subprocess.Popen(called, stdout=log, stderr=log)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-west-2",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)

    def answers() -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", port)) == 0

    wait_until(lambda: server.poll() is not None or answers())
    assert server.poll() is None, (tmp_path / "moto.log").read_text()
    yield
    server.terminate()
    server.wait(timeout=PATIENCE)


def test_ec2_gives_the_nodes_of_aws_yaml(ec2):
    import boto3
    from ray.autoscaler._private.commands import _bootstrap_config
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler._private.util import prepare_config

    config = read("cluster/aws.yaml")
    client = boto3.client("ec2")
    image = client.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"][0][
        "ImageId"
    ]
    iam = boto3.client("iam")
    for kind in config["available_node_types"].values():
        kind["node_config"]["ImageId"] = image
        iam.create_instance_profile(InstanceProfileName=kind["node_config"]["IamInstanceProfile"]["Name"])
    config = _bootstrap_config(prepare_config(config), no_config_cache=True)
    gpu = config["available_node_types"]["gpu"]
    assert gpu["resources"].items() >= {"CPU": 8, "GPU": 1, "accelerator_type:A10G": 1}.items()

    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        role = "head" if name == config["head_node_type"] else "worker"
        tags = {"ray-node-type": role, "ray-node-name": f"ray-latentune-{role}", "ray-user-node-type": name}
        provider.create_node(kind["node_config"], tags, 1)
    instances = [i for r in client.describe_instances()["Reservations"] for i in r["Instances"]]
    found = sorted((i["InstanceType"], i.get("InstanceLifecycle", "on demand")) for i in instances)
    assert found == [("g5.2xlarge", "spot"), ("m7i.large", "on demand")]
    ports = [
        (rule["IpProtocol"], rule.get("FromPort"), rule["IpRanges"])
        for group in client.describe_security_groups(GroupNames=["ray-autoscaler-latentune"])[
            "SecurityGroups"
        ]
        for rule in group["IpPermissions"]
    ]
    open_to_all = [port for _, port, ranges in ports if any(r["CidrIp"] == "0.0.0.0/0" for r in ranges)]
    assert open_to_all == [22]
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    assert provider.non_terminated_nodes({}) == []
    assert os.listdir(Path.home() / ".ssh")  # the key that ray up made to reach them
