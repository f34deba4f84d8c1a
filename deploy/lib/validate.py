"""What deploy/check looks at without a program of its own for it. validate.py CHECK prints what is wrong, and fails then."""

import json
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

DEPLOY = Path(__file__).resolve().parent.parent
ROOT = DEPLOY.parent
KUBERNETES = DEPLOY / "kubernetes"
# The oldest and the newest Kubernetes that the manifests are for.
VERSIONS = ["1.28", "1.37"]
# Files that an operator chooses to apply: not in kustomization.yaml.
BY_HAND = {"secret.example.yaml", "ingress.example.yaml", "postgres-trial.yaml"}
# What a node needs beyond the waits that are set: closing what is left, writing positions, going.
GRACE_MARGIN = 15

wrong = []


def expect(holds, message):
    if not holds:
        wrong.append(message)


def load_all(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def check_yaml():
    """Every YAML and JSON file can be read, and no key stands twice."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"'{key}' stands twice", node.start_mark)
        loader.flatten_mapping(node)
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    files = sorted(path for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".yml"})
    for path in files:
        try:
            list(yaml.load_all(path.read_text(), Strict))
        except yaml.YAMLError as error:
            expect(False, f"{path}: {error}")
    for path in DEPLOY.rglob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            expect(False, f"{path}: {error}")
    expect(len(files) > 10, f"only {len(files)} YAML files were found")


def check_compose():
    """What the schema of Compose does not say: our own rules for services, and that the parts fit."""
    text = (DEPLOY / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    services = compose["services"]
    nodes = {name: service for name, service in services.items() if name.startswith("ordercast-")}
    expect(len(nodes) == 3, "there are not three nodes")
    for name, service in services.items():
        expect(re.fullmatch(r"[1-9]\d*:[1-9]\d*", service.get("user", "")), f"{name}: `user` is not a number other than 0")
        expect(service.get("read_only") is True, f"{name}: the root is not read-only")
        expect(service.get("cap_drop") == ["ALL"], f"{name}: capabilities are kept")
        expect("no-new-privileges:true" in service.get("security_opt", []), f"{name}: may gain privileges")
        for key in ("healthcheck", "stop_grace_period", "ulimits", "restart", "logging"):
            expect(key in service, f"{name}: no `{key}`")
        image = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", service["image"])
        expect(re.search(r":[^/]+$", image) and not image.endswith(":latest"), f"{name}: {image} has no version")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                expect((DEPLOY / source).exists(), f"{name}: {source} does not exist")
            else:
                expect(source in compose["volumes"], f"{name}: the volume {source} is not declared")
        for other, how in service.get("depends_on", {}).items():
            expect(other in services, f"{name}: depends on {other}, which does not exist")
            healthy = how["condition"] == "service_healthy"
            expect(not healthy or "healthcheck" in services.get(other, {}), f"{name}: {other} has no health check")
    for name, node in nodes.items():
        environment = node["environment"]
        grace(name, environment, node["stop_grace_period"])
        expect(environment["CLUSTER_ADVERTISE"] == f"{name}:{environment['CLUSTER_LISTEN'].split(':')[1]}", f"{name}: advertises another")
        known_settings(name, environment)
    address = services["proxy"]["networks"]["edge"]["ipv4_address"]
    trusted = nodes["ordercast-1"]["environment"]["TRUSTED_PROXIES"]
    expect(trusted == f"{address}/32", f"nodes trust {trusted}, and the proxy is {address}")
    for name in ("haproxy.cfg", "nginx.conf"):
        servers = set(re.findall(r"(ordercast-\d+):9001", (DEPLOY / name).read_text()))
        expect(servers == set(nodes), f"{name} knows {sorted(servers)}, and there are {sorted(nodes)}")
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    expect(scraped == [f"{name}:9001" for name in nodes], "prometheus.yml scrapes other nodes")
    # Every variable has a default or stands in .env.example, and that file has no secrets.
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    expect(used == set(example), f"compose.yaml and .env.example differ in {sorted(used ^ set(example))}")
    for name, value in example.items():
        expect(not value or not re.search("PASSWORD|SECRET|TOKEN|KEY", name), f".env.example has a value for {name}")
        if re.search("PASSWORD|SECRET", name):
            expect(f"${{{name}:?" in text, f"compose.yaml starts without {name}")


def grace(name, environment, period):
    """The wait before a kill is the two waits of the node, and a margin."""
    seconds = int(str(period).removesuffix("s"))
    needed = (int(environment["DRAIN_DELAY_MS"]) + int(environment["DRAIN_MS"])) / 1000 + GRACE_MARGIN
    expect(seconds == needed, f"{name}: killed after {seconds} s; DRAIN_DELAY_MS, DRAIN_MS and {GRACE_MARGIN} s are {needed:g} s")


def known_settings(name, environment):
    known = set(re.findall(r"\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text()))
    unknown = set(environment) - known - {"POD_IP"}
    expect(not unknown, f"{name}: no settings are called {sorted(unknown)}")


def check_kubernetes():
    """The schemas of Kubernetes, strictly; and the same rules for pods."""
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    kustomization = load_all(KUBERNETES / "kustomization.yaml")[0]
    listed = kustomization["resources"]
    expect(set(listed) | BY_HAND == files, f"kustomization.yaml and the folder differ in {sorted((set(listed) | BY_HAND) ^ files)}")
    known = {"apiVersion", "kind", "namespace", "resources", "labels", "images"}
    expect(set(kustomization) <= known, f"kustomization.yaml: unknown {sorted(set(kustomization) - known)}")

    objects, places = {}, {}
    for name in sorted(files):
        for thing in load_all(KUBERNETES / name):
            key = (thing["kind"], thing["metadata"]["name"])
            expect(key not in objects, f"{name}: {key} is there twice")
            objects[key], places[key] = thing, name
            expect(thing["kind"] == "Namespace" or thing["metadata"].get("namespace") == "ordercast", f"{name}: {key} is in another namespace")
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(thing, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    expect(False, f"{name}: {key} for {version}: {'.'.join(map(str, error.path))}: {error.message}")

    secrets = {name: set(thing["stringData"]) for (kind, name), thing in objects.items() if kind == "Secret"}
    # It has a Secret of its own, made by hand.
    secrets["ordercast-postgres"] = {"POSTGRES_PASSWORD"}
    settings = {name: thing["data"] for (kind, name), thing in objects.items() if kind == "ConfigMap"}
    pods = {key: thing["spec"]["template"] for key, thing in objects.items() if key[0] in {"Deployment", "StatefulSet"}}
    for key, thing in objects.items():
        if key in pods:
            selected = thing["spec"]["selector"]["matchLabels"]
            expect(selected.items() <= pods[key]["metadata"]["labels"].items(), f"{key}: selects other pods")
            pod_is_restricted(key, pods[key]["spec"], settings, secrets)
        if key[0] == "Service":
            chosen = [pod for pod in pods.values() if thing["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
            expect(len(chosen) == 1, f"{key}: chooses {len(chosen)} kinds of pods")
            ports = {port["name"] for pod in chosen for container in pod["spec"]["containers"] for port in container["ports"]}
            expect({port["targetPort"] for port in thing["spec"]["ports"]} <= ports, f"{key}: no container has such a port")

    deployment = objects["Deployment", "ordercast"]["spec"]
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    expect(deployment["replicas"] == 3, "there are not three replicas")
    expect(deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}, "a deploy has a gap")
    expect(deployment["minReadySeconds"] == 15, "a new pod is not waited for")
    grace("Deployment", settings["ordercast"], pod["terminationGracePeriodSeconds"])
    known_settings("ConfigMap", settings["ordercast"])
    known_settings("Secret", objects["Secret", "ordercast"]["stringData"])
    known_settings("Deployment", {variable["name"] for variable in container["env"]})
    names = [variable["name"] for variable in container["env"]]
    expect(names.index("POD_IP") < names.index("CLUSTER_ADVERTISE"), "POD_IP has to stand before what uses it")
    probes = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    expect(probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}, f"probes are {probes}")
    readiness = container["readinessProbe"]
    expect(readiness["failureThreshold"] * readiness["periodSeconds"] * 1000 < int(settings["ordercast"]["DRAIN_DELAY_MS"]),
           "the probe takes longer than DRAIN_DELAY_MS")
    # Who may reach what.
    rules = objects["NetworkPolicy", "ordercast"]["spec"]["ingress"]
    cluster = [rule for rule in rules for port in rule["ports"] if port["port"] == 9002]
    own = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "ordercast"}}}]
    expect([rule["from"] for rule in cluster] == [own], "port 9002 can be reached by others than the nodes")
    expect(all(rule.get("from") for rule in rules), "a rule lets everybody in")
    for (kind, name), thing in objects.items():
        if kind == "Secret":
            for key, value in thing["stringData"].items():
                expect("CHANGE-ME" in value, f"{places[kind, name]}: {key} looks like a real secret")
    # Kustomize may not read outside its folder, so the file is there twice.
    inline, file = settings["redis"]["redis.conf"], (DEPLOY / "redis.conf").read_text()
    expect(inline == file, "redis.yaml and redis.conf differ")
    expect(pod_image_is_replaced(kustomization, container["image"]), "kustomization.yaml replaces another image")


def pod_image_is_replaced(kustomization, image):
    return [entry["name"] for entry in kustomization["images"]] == [image]


def pod_is_restricted(key, pod, settings, secrets):
    """The profile `restricted`, and what the pod refers to exists."""
    security = pod.get("securityContext", {})
    expect(security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0, f"{key}: may run as root")
    expect(security.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{key}: no seccomp profile")
    expect(pod.get("automountServiceAccountToken") is False, f"{key}: has a token for the cluster")
    expect(pod.get("enableServiceLinks") is False, f"{key}: gets variables for every service")
    expect("terminationGracePeriodSeconds" in pod, f"{key}: no grace period")
    volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
    for container in pod["containers"]:
        expect(container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}, f"{key}: {container['name']} is not restricted")
        expect("readinessProbe" in container, f"{key}: no readiness probe")
        resources = container["resources"]
        expect({"cpu", "memory"} <= set(resources["requests"]) and "memory" in resources["limits"], f"{key}: resources are missing")
        for source in container.get("envFrom", []):
            for kind, existing in (("configMapRef", settings), ("secretRef", secrets)):
                expect(kind not in source or source[kind]["name"] in existing, f"{key}: {source} does not exist")
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            expect(not reference or reference["key"] in secrets.get(reference["name"], ()), f"{key}: {reference} does not exist")
        for mount in container.get("volumeMounts", []):
            expect(mount["name"] in volumes, f"{key}: the volume {mount['name']} does not exist")


def registered():
    """The names in src/base/metrics.rs as Prometheus sees them, and which of them are histograms."""
    source = (ROOT / "src/base/metrics.rs").read_text()
    inner = source[source.index("pub struct Inner"):]
    types = dict(re.findall(r"^    (?:pub )?(\w+): ([^\n]+),$", inner[:inner.index("\n}")], re.MULTILINE))
    names, histograms = set(), set()
    adds = r'names\s*\.(add|seconds)\(\s*"(\w+)"'
    let = re.findall(rf"let (\w+)(?:: ([^=;\n]+))? =\s*{adds}", source)
    fields = [(field, "", how, name) for field, how, name in re.findall(rf"(\w+):\s*{adds}", source)]
    for field, declared, how, name in let + fields:
        if how == "seconds":
            histograms.add(f"ordercast_{name}_seconds")
            continue
        kind = declared or types.get(field, "")
        if not re.search("Count|Gauge", kind):
            raise SystemExit(f"validate.py cannot tell what kind of metric {name} is")
        names.add(f"ordercast_{name}" + ("_total" if "Count" in kind else ""))
    written = len(re.findall(r"names\s*\.\w+\(", source)) + len(re.findall(r"names\.0\.register", source))
    if len(names | histograms) != written or not histograms:
        raise SystemExit(f"validate.py read {len(names | histograms)} of {written} metrics in src/base/metrics.rs")
    return names, histograms


def check_metrics():
    """Every metric in the dashboards and alerts exists."""
    names, histograms = registered()
    known = names | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    used = {}
    for path in [*DEPLOY.glob("grafana/dashboards/*.json"), *DEPLOY.glob("prometheus/*.yml")]:
        for name in re.findall(r"\bordercast_\w+", path.read_text()):
            used.setdefault(name, path)
    for name, path in sorted(used.items()):
        expect(name in known, f"{path.relative_to(ROOT)}: the server has no metric {name}")
    expect(len(used) > 20, f"only {len(used)} metrics were found")


def check_dashboards():
    """Every panel has a title, a place of its own, and queries of the provisioned data source."""
    source = load_all(DEPLOY / "grafana/provisioning/datasources/prometheus.yml")[0]["datasources"][0]["uid"]
    for path in DEPLOY.glob("grafana/dashboards/*.json"):
        board = json.loads(path.read_text())
        expect(board["uid"] and board["title"], f"{path}: no uid or title")
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        expect(variables["source"]["current"]["value"] == source, f"{path}: another data source")
        taken, ids = {}, set()
        for panel in board["panels"]:
            where = f"{path.name}: {panel.get('title')}"
            expect(panel.get("title"), f"{path}: a panel has no title")
            expect(panel["id"] not in ids, f"{where}: id {panel['id']} is there twice")
            ids.add(panel["id"])
            place = panel["gridPos"]
            expect(place["x"] + place["w"] <= 24, f"{where}: too wide")
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    expect((x, y) not in taken, f"{where}: lies on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
            if panel["type"] == "row":
                continue
            expect(panel.get("description"), f"{where}: no description")
            expect(panel["targets"], f"{where}: no query")
            for target in panel["targets"]:
                expect(target["datasource"]["uid"] == "${source}", f"{where}: another data source")
        mounted = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]
        expect(f"./grafana/dashboards:{load_all(DEPLOY / 'grafana/provisioning/dashboards/ordercast.yml')[0]['providers'][0]['options']['path']}:ro"
               in mounted["volumes"], "Grafana looks for dashboards elsewhere")


def queries():
    """All queries of the dashboards as rules, for promtool: it parses them."""
    rules = []
    for path in sorted(DEPLOY.glob("grafana/dashboards/*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                text = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
                rules.append({"record": f"panel:{len(rules)}", "expr": text})
    print(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))


def alerts_tested():
    """Every alert is seen firing, and seen quiet, in alerts_test.yml."""
    alerts = {rule["alert"] for group in load_all(DEPLOY / "prometheus/alerts.yml")[0]["groups"] for rule in group["rules"]}
    cases = [case for test in load_all(DEPLOY / "prometheus/alerts_test.yml")[0]["tests"] for case in test["alert_rule_test"]]
    fire = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    expect(fire == alerts, f"not seen firing, or unknown: {sorted(fire ^ alerts)}")
    expect(quiet == alerts, f"not seen quiet, or unknown: {sorted(quiet ^ alerts)}")


def check_containerfile():
    """The last stage runs as a number, has no shell forms, and what is copied exists and is not ignored."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Containerfile").read_text())
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    last = max(at for at, (word, _) in enumerate(lines) if word == "FROM")
    final = dict(lines[last:])
    expect(re.fullmatch(r"[1-9]\d*:[1-9]\d*", final.get("USER", "")), "the image does not run as a number other than 0")
    for word in ("HEALTHCHECK", "ENTRYPOINT", "CMD"):
        expect(re.search(r'\["[^]]*"\]$', final.get(word, "")), f"{word} needs a shell, and the image has none")
    expect("EXPOSE" in final, "no port is exposed")
    # The subcommands that the image uses exist.
    source = (ROOT / "src/cli.rs").read_text()
    subcommands = {word.lower() for word in re.findall(r"^    ([A-Z]\w+)(?:\(\w+\))?,$", source[source.index("pub enum Subcommand"):], re.MULTILINE)}
    for word in ("HEALTHCHECK", "CMD"):
        expect(re.search(r'"([^"]*)"\]$', final[word]).group(1) in subcommands, f"{word}: the server has no such subcommand")
    channel = re.search(r'channel = "([\d.]+)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
    expect(f"rust:{channel.rsplit('.', 1)[0]}-" in text and f"RUSTUP_TOOLCHAIN={channel}" in text, f"the build is not with Rust {channel}")
    allowed = re.findall(r"^!(.*)$", (DEPLOY / "Containerfile.dockerignore").read_text(), re.MULTILINE)
    for word, rest in lines[:last]:
        if word == "COPY":
            for source in rest.split()[:-1]:
                expect((ROOT / source).exists(), f"COPY: {source} does not exist")
                expect(any(source == path or source.startswith(f"{path}/") for path in allowed), f"COPY: {source} is ignored")
                print(source, file=sys.stderr)
    # The test page's files go into the binary.
    for name in re.findall(r'#\[include = "([^"/]*)', (ROOT / "src/transport/http/page.rs").read_text()):
        expect(f"web-test/{name}" in allowed, f"web-test/{name} is not copied, and the binary needs it")


def check_systemd():
    """The unit gives the server the time that it takes, starts what the package has, and its settings exist."""
    unit = re.findall(r"^(\w+)=(.*)$", (DEPLOY / "systemd/ordercast.service").read_text(), re.MULTILINE)
    service = dict(unit)
    settings = (ROOT / "docs/settings.md").read_text()
    default = {name: value for name, value in re.findall(r"\| `(\w+)` \| `([^`]+)` \|", settings)}
    environment = re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "systemd/ordercast.env").read_text(), re.MULTILINE)
    known_settings("ordercast.env", environment)
    grace("ordercast.service", default, service["TimeoutStopSec"])
    expect(int(service["LimitNOFILE"]) >= 2 * int(default["MAX_CONNECTIONS"]), "LimitNOFILE is too small for MAX_CONNECTIONS")
    package = (ROOT / "Cargo.toml").read_text()
    program, subcommand = service["ExecStart"].split()
    expect(f'"{program[1:].rsplit("/", 1)[0]}/"' in package and subcommand == "serve", "ExecStart is not what the package has")
    expect(f'"{service["EnvironmentFile"][1:].rsplit("/", 1)[0]}/", "600"' in package, "the settings are not private")
    user = re.search(r"^u (\S+) .* (\S+)$", (DEPLOY / "systemd/ordercast.sysusers").read_text(), re.MULTILINE)
    expect(user and user.groups() == (service["User"], service["WorkingDirectory"]), "the user or its folder is another one")
    expect(service["WorkingDirectory"] == f'/var/lib/{service["StateDirectory"]}', "the server could not write its database")


CHECKS = {"systemd": check_systemd, "yaml": check_yaml, "compose": check_compose, "kubernetes": check_kubernetes, "metrics": check_metrics,
          "dashboards": check_dashboards, "queries": queries, "alerts-tested": alerts_tested, "containerfile": check_containerfile}

if __name__ == "__main__":
    CHECKS[sys.argv[1]]()
    for line in wrong:
        print(line)
    sys.exit(bool(wrong))
