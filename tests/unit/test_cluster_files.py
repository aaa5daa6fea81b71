"""The launch files of ``cluster/``: what the tools that read them would accept, and what they would open to others."""

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
import ray.autoscaler
import yaml
from botocore.validate import ParamValidator
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray.autoscaler._private.util import prepare_config, validate_config

from tfser import __version__

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["up.yaml", "gcp.yaml"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
SHUT = {"RAY_enable_metrics_collection": "0", "AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}
"""Keeps shut the ports that would ask for no token."""


def text_of(name):
    return (CLUSTER / name).read_text(encoding="utf-8")


def read(name):
    return yaml.safe_load(text_of(name))


def environment_of(config):
    """What the containers of a launcher file get."""
    return dict(re.findall(r"^-e (\w+)=(.*)$", "\n".join(config["docker"]["run_options"]), re.MULTILINE))


def kuberay():
    """The documents of the Kubernetes file by kind, and the pod templates of the job."""
    documents = {d["kind"]: d for d in yaml.safe_load_all(text_of("kuberay.yaml"))}
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    return documents, cluster["headGroupSpec"]["template"], [group["template"] for group in cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_prepares_and_accepts_the_file(name):
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_refuses_the_file_with_a_word_that_it_does_not_know(name):
    config = read(name)
    config["available_node_types"]["gpu_spot"]["min_worker"] = 0
    with pytest.raises(Exception, match="min_worker"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_nothing_is_left_to_rays_defaults(name):
    config = read(name)
    defaults = yaml.safe_load(
        (Path(ray.autoscaler.__file__).parent / config["provider"]["type"] / "defaults.yaml").read_text()
    )
    assert set(defaults) - set(config) == set()
    assert all("resources" in node for node in config["available_node_types"].values())
    prepared = prepare_config(copy.deepcopy(config))
    commands = [c for key, value in prepared.items() if key.endswith("_commands") for c in value]
    assert not [c for c in commands if "whl" in c or "pip" in c], "something is installed when a machine starts"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_ray_start_asks_for_the_token_and_keeps_its_open_ports_shut(name):
    config = read(name)
    environment = environment_of(config)
    assert environment.items() >= {"RAY_AUTH_MODE": "token", **SHUT}.items()
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [
        c for key in ("head_start_ray_commands", "worker_start_ray_commands") for c in config[key] if "ray start" in c
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in c and "--disable-usage-stats" in c for c in starts)
    (head,) = [c for c in starts if "--head" in c]
    assert "--dashboard-host=127.0.0.1" in head
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert "python /opt/tfser/mlflow_service.py start" in config["head_start_ray_commands"]
    assert "0.0.0.0" not in text_of(name)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_head_stays_and_trains_nothing_while_workers_are_spot_and_may_all_go(name):
    config = read(name)
    head, worker = (config["available_node_types"][key] for key in (config["head_node_type"], "gpu_spot"))
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert "scheduling" not in head["node_config"]
    market = worker["node_config"].get("InstanceMarketOptions") or worker["node_config"]["scheduling"]
    assert (market.get("MarketType") or market["provisioningModel"]).lower() == "spot"
    assert worker["min_workers"] == 0
    assert worker["resources"]["GPU"] == 1
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", LAUNCHERS)
def test_as_many_trials_wait_as_the_cluster_can_run_at_its_largest(name):
    config, environment = read(name), environment_of(read(name))
    worker = config["available_node_types"]["gpu_spot"]
    by_gpu = worker["resources"]["GPU"] / float(environment["TFSER_TRIAL_GPUS"])
    largest = min(config["max_workers"], worker["max_workers"])
    assert int(environment["TUNE_MAX_PENDING_TRIALS_PG"]) == largest * min(by_gpu, worker["resources"]["CPU"])


@pytest.mark.parametrize(("name", "scheme"), [("up.yaml", "s3"), ("gcp.yaml", "gs")])
def test_what_has_to_outlive_the_cluster_lies_in_a_bucket(name, scheme):
    environment = environment_of(read(name))
    assert environment["TFSER_HOME"].startswith(f"{scheme}://YOUR-BUCKET/")
    assert environment["TFSER_DATA"].startswith(f"{scheme}://YOUR-BUCKET/")


def ec2_problems(node_config):
    """What EC2's own model of a request says of it, without a network."""
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    return ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **node_config}, shape).generate_report()


@pytest.mark.parametrize("node", ["head", "gpu_spot"])
def test_every_machine_passes_ec2s_own_check_of_a_request(node):
    node_config = read("up.yaml")["available_node_types"][node]["node_config"]
    assert ec2_problems(node_config) == ""
    assert "InstanceTyp" in ec2_problems({**node_config, "InstanceTyp": "g5.2xlarge"}), "the check finds nothing"
    assert node_config["MetadataOptions"]["HttpTokens"] == "required"


def launched(monkeypatch, home, change=lambda config: None):
    """Ray's own launcher against moto's stand-in for AWS: the machines it makes, and what their groups let in."""
    moto = pytest.importorskip("moto", reason="moto is not installed (pip install 'tfser[dev]')")
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    for key, value in {
        "HOME": home,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(key, str(value))  # Ray writes its key pair to the home folder
    with moto.mock_aws():
        region = read("up.yaml")["provider"]["region"]
        ec2, iam = boto3.resource("ec2", region_name=region), boto3.client("iam", region_name=region)
        group = ec2.create_security_group(GroupName="tfser", Description="nodes", VpcId=next(iter(ec2.vpcs.all())).id)
        for profile in ("tfser-head", "tfser-worker"):
            iam.create_instance_profile(InstanceProfileName=profile)
        image = next(iter(ec2.images.all())).id
        config = yaml.safe_load(text_of("up.yaml").replace("ami-YOUR-IMAGE", image).replace("sg-YOUR-GROUP", group.id))
        change(config)
        config = bootstrap_aws(prepare_config(config))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for node in ("head", "gpu_spot"):
            tags = {
                "ray-node-type": "head" if node == "head" else "worker",
                "ray-user-node-type": node,
                "ray-launch-config": "x",
            }
            provider.create_node(config["available_node_types"][node]["node_config"], tags, 1)
        machines = {
            m.instance_type: (m.instance_lifecycle, {g["GroupName"] for g in m.security_groups})
            for m in ec2.instances.all()
        }
        used = set().union(*(groups for _, groups in machines.values()))
        let_in = [p for g in ec2.security_groups.all() if g.group_name in used for p in g.ip_permissions]
        return machines, let_in, {r["RoleName"] for r in iam.list_roles()["Roles"]}


@pytest.mark.full
def test_the_launcher_makes_these_machines_and_lets_nobody_in_by_itself(monkeypatch, tmp_path):
    machines, let_in, roles = launched(monkeypatch, tmp_path)
    assert machines == {"m6i.xlarge": (None, {"tfser"}), "g5.2xlarge": ("spot", {"tfser"})}
    assert let_in == [], "the group of the file was changed"
    assert roles == set(), "Ray made a role of its own, with every right on EC2 and S3"


@pytest.mark.full
def test_without_the_group_of_the_file_the_launcher_would_let_everybody_ssh(monkeypatch, tmp_path):
    def forget(config):
        for node in config["available_node_types"].values():
            del node["node_config"]["SecurityGroupIds"]

    _, let_in, _ = launched(monkeypatch, tmp_path, forget)
    assert "0.0.0.0/0" in json.dumps(let_in)


@pytest.mark.parametrize("node", ["head", "gpu_spot"])
def test_every_machine_fits_googles_description_of_an_instance(node):
    discovery = pytest.importorskip(
        "googleapiclient.discovery_cache", reason="google-api-python-client is not installed"
    )
    schemas = json.loads(
        (Path(discovery.__file__).parent / "documents" / "compute.v1.json").read_text(encoding="utf-8")
    )["schemas"]

    def problems(value, schema, path):
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        # Numbers of 64 bits are strings in Google's JSON, and Ray's YAML has them as numbers.
        if not isinstance(value, kinds[schema["type"]]) and not (
            schema.get("format") == "int64" and isinstance(value, int)
        ):
            return [f"{path}: {value!r} is no {schema['type']}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{path}: no {value!r}"]
        if isinstance(value, list):
            return [p for i, item in enumerate(value) for p in problems(item, schema["items"], f"{path}[{i}]")]
        found = []
        if isinstance(value, dict) and "properties" in schema:
            for key, item in value.items():
                known = schema["properties"].get(key)
                found += problems(item, known, f"{path}.{key}") if known else [f"{path}: no {key}"]
        return found

    node_config = read("gcp.yaml")["available_node_types"][node]["node_config"]
    assert problems(node_config, {"$ref": "Instance"}, node) == []
    assert problems({**node_config, "machineTyp": "x"}, {"$ref": "Instance"}, node) == [f"{node}: no machineTyp"]
    assert problems({"scheduling": {"provisioningModel": "SPOTTY"}}, {"$ref": "Instance"}, node), (
        "the check finds nothing"
    )


def test_every_file_names_the_versions_that_were_tested():
    tag = f"{__version__}-ray{PINS['ray']}"
    for name in ("up.yaml", "gcp.yaml", "kuberay.yaml", "Dockerfile"):
        assert set(re.findall(r"YOUR-REGISTRY/tfser:(\S+)", text_of(name))) == {tag}, name
    assert re.findall(r"^FROM (\S+)$", text_of("Dockerfile"), re.MULTILINE) == [f"rayproject/ray:{PINS['ray']}-py311"]
    documents, _, _ = kuberay()
    assert documents["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    assert ray.__version__ == PINS["ray"], "this environment is not the one of constraints.txt"


def test_a_retry_of_the_kubernetes_job_is_a_new_cluster_that_plans_anew():
    documents, head, workers = kuberay()
    job = documents["RayJob"]["spec"]
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"] is True
    assert job["entrypoint"].startswith("python -m tfser.sweep ")
    cluster = job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert {t["spec"]["restartPolicy"] for t in (head, *workers)} == {"Never"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"]) == (0, 0)
    volumes = [v for t in (head, *workers) for v in t["spec"]["volumes"] if "persistentVolumeClaim" in v]
    claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
    assert [v["persistentVolumeClaim"]["claimName"] for v in volumes] == [claim] * (1 + len(workers))


def test_the_kubernetes_pods_share_one_home_and_the_trials_of_a_worker_fit_its_gpu():
    documents, head, (worker,) = kuberay()
    pods = [t["spec"] for t in (head, worker)]
    containers = {c["name"]: c for pod in pods for c in (*pod.get("initContainers", ()), *pod["containers"])}
    assert len({c["image"] for c in containers.values()}) == 1
    for name, container in containers.items():
        environment = {e["name"]: e["value"] for e in container["env"]}
        mounts = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "tfser"]
        assert [environment["TFSER_HOME"]] == mounts, name
        if name != "mlflow":
            assert environment.items() >= SHUT.items(), name
    limits = containers["ray-worker"]["resources"]["limits"]
    at_once = min(int(limits["cpu"]), int(limits["nvidia.com/gpu"]) / float(environment["TFSER_TRIAL_GPUS"]))
    (group,) = documents["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert int(environment["TUNE_MAX_PENDING_TRIALS_PG"]) == group["maxReplicas"] * at_once
    assert "nvidia.com/gpu" not in containers["ray-head"]["resources"]["limits"]


def test_the_kubernetes_pods_let_only_each_other_and_kuberay_in():
    documents, head, workers = kuberay()
    policy = documents["NetworkPolicy"]["spec"]
    selected = policy["podSelector"]["matchLabels"]
    assert all(t["metadata"]["labels"].items() >= selected.items() for t in (head, *workers))
    assert policy["policyTypes"] == ["Ingress"]
    among, outside = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": selected}}]}
    assert outside["ports"] == [{"protocol": "TCP", "port": 8265}], (
        "others reach more than the dashboard, which asks for the token"
    )
    assert all(source.get("podSelector") for source in outside["from"])
    (mlflow,) = head["spec"]["initContainers"]
    assert "--host" not in mlflow["command"], "MLflow listens on loopback unless it is told otherwise"
    assert mlflow["restartPolicy"] == "Always", "nothing would start it again"
    names = {d["metadata"]["namespace"] for d in documents.values()}
    assert len(names) == 1
    assert len({d["metadata"]["name"] for d in documents.values()}) == 1  # the policy names the job


def copied():
    """The sources of every COPY of the container file, with where they go."""
    pairs = []
    for words in re.findall(r"^COPY (.*)$", text_of("Dockerfile"), re.MULTILINE):
        *sources, target = [word for word in words.split() if not word.startswith("--")]
        pairs += [(source, target + Path(source).name if target.endswith("/") else target) for source in sources]
    return pairs


def test_the_container_file_copies_what_the_builder_is_given_and_nothing_else_is_given():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "what is not named would be sent to the builder"
    assert {line[1:] for line in lines if line.startswith("!")} == {source for source, _ in copied()}
    assert all((ROOT / source).exists() for source, _ in copied())


def test_a_wheel_can_be_built_from_what_the_container_file_copies(tmp_path):
    for source, target in copied():
        goal = tmp_path / Path(target).relative_to("/opt/tfser")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, goal)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path / "source",
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert [p.name for p in (tmp_path / "dist").glob("*.whl")] == [f"tfser-{__version__}-py3-none-any.whl"]
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {
        "constraints.txt",
        "mlflow_service.py",
        "mps.sh",
        "restart.sh",
    }


def test_the_image_installs_pinned_versions_and_holds_the_scripts_that_the_launch_files_call():
    dockerfile = text_of("Dockerfile")
    assert "PIP_CONSTRAINT=/opt/tfser/constraints.txt" in dockerfile
    assert dockerfile.index("COPY --chown=ray constraints.txt") < dockerfile.index("pip install")
    for name, value in {"RAY_AUTH_MODE": "token", **SHUT}.items():
        assert f"{name}={value} " in dockerfile, name
    targets = {target for _, target in copied()}
    for name in ("up.yaml", "gcp.yaml", "kuberay.yaml"):
        called = set(re.findall(r"/opt/tfser/[\w./]+", text_of(name)))
        assert called
        assert called <= targets, name


def test_no_file_names_a_package_index_or_carries_a_secret():
    for path in CLUSTER.iterdir():
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(
                r"--(extra-)?index.url|--find.links|pypi\.|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text
            ), path.name


def test_a_submitted_working_folder_leaves_the_tests_and_old_results_behind_but_not_what_a_sweep_reads():
    left_out = get_excludes_from_ignore_files(ROOT, include_gitignore=True)

    def uploaded(path):
        return not any(excluded(ROOT / path) for excluded in left_out)

    assert not uploaded("tests/conftest.py")
    assert not uploaded("results/2026-11-21-emodb-first-2s-fixed/README.md")
    assert not uploaded("results/.tfser/mlflow.db")
    assert all(
        uploaded(path)
        for path in ("tfser/sweep/run.py", "search_spaces/atfnn.yaml", "results/published.yaml", "cluster/mps.sh")
    )


def test_the_readme_names_every_file_of_the_folder_and_every_link_leads_somewhere():
    readme = text_of("README.md")
    files = {p.name for p in CLUSTER.iterdir() if p.is_file() and p.name not in ("README.md", "hosts")}
    assert {name for name in files if name not in readme} == set()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert [link for link in links if not (CLUSTER / link).exists()] == []
