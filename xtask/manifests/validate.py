"""Validates rendered manifests against the schemas of Kubernetes and against each other. Takes the file of the
alerts and those of the manifests, prints the faults, and exits with 1 if there are any."""

import re
import sys
from fnmatch import fnmatchcase

import kubernetes_validate
import yaml

# The oldest supported minor version, and the newest with a schema.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
# Objects that operators or other programs create before these manifests are applied, and their keys. The first match counts.
OUTSIDE = {
    "keda-connections": ["RABBITMQ_URL", "tls", "ca"],
    "gateway-authentication": ["state-secret"],
    "*-connections": ["RABBITMQ_URL", "MONGO_URI"],
    "messages-tls": ["tls.crt", "tls.key"],
    "messages-ca": ["ca.pem"],
}
# Promised replicas of each Deployment, by the beginning of the file's name.
LEAST_REPLICAS = {"production": 3}
# Seconds that must be left between the end of a pod's shutdown and SIGKILL.
MARGIN = 5
# Volumes that the Pod Security Standard "restricted" allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def pod_of(document):
    return document.get("spec", {}).get("template", {})


def outside(name):
    """Returns the keys of a ConfigMap or Secret that is created elsewhere, or None."""
    return next((keys for pattern, keys in OUTSIDE.items() if fnmatchcase(name, pattern)), None)


def ports_of(pod):
    """Returns the ports of a pod by name."""
    return {p.get("name"): p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or []}


def selects(selector, labels):
    operators = {
        "In": lambda have, wanted: have in wanted,
        "NotIn": lambda have, wanted: have not in wanted,
        "Exists": lambda have, _: have is not None,
        "DoesNotExist": lambda have, _: have is None,
    }
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        operators[rule["operator"]](labels.get(rule["key"]), rule.get("values"))
        for rule in selector.get("matchExpressions") or []
    )


class Manifests:
    def __init__(self, documents, alerts=None, least_replicas=1):
        self.documents = documents
        self.alerts = alerts
        self.least_replicas = least_replicas
        self.wrong = []
        self.by_schema = 0
        self.by_structure = []

    def complain(self, document, text):
        name = document.get("metadata", {}).get("name", "?")
        self.wrong.append(f"{document.get('kind', '?')}/{name}: {text}")

    def pods(self):
        return [pod_of(d) for d in self.documents if d["kind"] in ("Deployment", "StatefulSet")]

    def selected(self, selector):
        return [pod for pod in self.pods() if selects(selector, pod["metadata"]["labels"])]

    def named(self, kind):
        return {d["metadata"]["name"]: d for d in self.documents if d["kind"] == kind}

    def check(self):
        for document in self.documents:
            if not all(document.get(key) for key in ("apiVersion", "kind")) or not document.get("metadata", {}).get("name"):
                self.complain(document, "has no apiVersion, kind or metadata.name")
                return
        for document in self.documents:
            self.check_schema(document)
        self.check_pods()
        self.check_references()
        self.check_replicas()

    def check_schema(self, document):
        try:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
            self.by_schema += 1
        except kubernetes_validate.SchemaNotFoundError:
            self.by_structure.append(f"{document['kind']}/{document['metadata']['name']}")
            if not isinstance(document.get("spec"), dict):
                self.complain(document, "has no spec")
        except kubernetes_validate.ValidationError as error:
            path = ".".join(map(str, error.path))
            self.complain(document, f"{path}: {error.message} (Kubernetes {error.version})")

    def check_pods(self):
        settings = {kind: self.named(kind) for kind in ("ConfigMap", "Secret")}
        accounts = self.named("ServiceAccount")
        for document in self.documents:
            if document["kind"] not in ("Deployment", "StatefulSet"):
                continue
            pod = pod_of(document)
            spec = pod["spec"]
            if not selects(document["spec"]["selector"], pod["metadata"].get("labels") or {}):
                self.complain(document, "its selector does not select its own pods")
            account = spec.get("serviceAccountName")
            if account and account not in accounts:
                self.complain(document, f"there is no ServiceAccount {account}")
            if spec.get("automountServiceAccountToken") is not False:
                self.complain(document, "automountServiceAccountToken must be false")
            self.check_restricted(document, spec)
            volumes = [v["name"] for v in spec.get("volumes") or []]
            volumes += [v["metadata"]["name"] for v in document["spec"].get("volumeClaimTemplates") or []]
            for container in spec["containers"]:
                for mount in container.get("volumeMounts") or []:
                    if mount["name"] not in volumes:
                        self.complain(document, f"there is no volume {mount['name']}")
                environment = dict(self.environment(document, container, settings))
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    if probe not in container:
                        self.complain(document, f"{container['name']} has no {probe}")
                self.check_stop(document, container, environment)
            for volume in spec.get("volumes") or []:
                for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                    name = volume.get(field, {}).get(key)
                    if name and name not in settings[kind] and not outside(name):
                        self.complain(document, f"there is no {kind} {name}")

    def check_restricted(self, document, spec):
        """The Pod Security Standard "restricted", which the namespaces enforce."""
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                self.complain(document, f"its pods have {field}")
        for volume in spec.get("volumes") or []:
            if not VOLUMES.issuperset(volume.keys() - {"name"}):
                self.complain(document, f"its volume {volume['name']} is of a kind that is not allowed")
        pod = spec.get("securityContext") or {}
        for container in spec["containers"] + (spec.get("initContainers") or []):
            name, own = container["name"], container.get("securityContext") or {}
            context = {**pod, **own}
            capabilities = own.get("capabilities") or {}
            if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
                self.complain(document, f"{name} may run as root")
            if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
                self.complain(document, f"{name} has no seccompProfile")
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                self.complain(document, f"{name} may escalate its privileges")
            if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
                self.complain(document, f"{name} keeps capabilities")
            if any(port.get("hostPort") for port in container.get("ports") or []):
                self.complain(document, f"{name} has a port of its node")

    def environment(self, document, container, settings):
        for source in container.get("envFrom") or []:
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                name = source.get(field, {}).get("name")
                if name in settings[kind]:
                    yield from (settings[kind][name].get("data") or {}).items()
                elif name and not outside(name):
                    self.complain(document, f"there is no {kind} {name}")
        for entry in container.get("env") or []:
            yield entry["name"], entry.get("value")

    def check_stop(self, document, container, environment):
        if "SHUTDOWN_GRACE_MS" not in environment:
            return
        drain = (int(environment["DRAIN_DELAY_MS"]) + int(environment["SHUTDOWN_GRACE_MS"])) / 1000
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        period = pod_of(document)["spec"].get("terminationGracePeriodSeconds", 30)
        if period <= pause + drain + MARGIN:
            self.complain(document, f"is killed after {period} s and takes {pause + drain} s to stop; at least {MARGIN} s must be left")

    def check_references(self):
        services = self.named("Service")
        for document in self.documents:
            kind, spec = document["kind"], document.get("spec") or {}
            if kind == "Service":
                pods = self.selected({"matchLabels": spec["selector"]})
                for port in spec["ports"]:
                    target = port.get("targetPort")
                    if not any(target in ports_of(pod) for pod in pods):
                        self.complain(document, f"no pod has its port {target}")
                    elif not all(self.admits(pod, ports_of(pod).get(target)) for pod in pods):
                        self.complain(document, f"no NetworkPolicy allows clients to reach its port {target}")
            elif kind in ("PodDisruptionBudget", "NetworkPolicy"):
                if not self.selected(spec.get("selector") or spec.get("podSelector") or {}):
                    self.complain(document, "selects no pod")
                if kind == "NetworkPolicy":
                    self.check_policy(document, spec)
            elif kind == "PodMonitor":
                self.check_monitor(document, spec)
            elif kind == "PrometheusRule" and spec != self.alerts:
                self.complain(document, "differs from the alerts file that it is generated from")
            elif kind == "TriggerAuthentication":
                self.check_authentication(document, spec)
            elif kind in ("HorizontalPodAutoscaler", "ScaledObject"):
                target = spec.get("scaleTargetRef") or {}
                if target.get("name") not in self.named(target.get("kind", "Deployment")):
                    self.complain(document, f"there is no {target}")
                if kind == "ScaledObject":
                    self.check_triggers(document, spec)
            elif kind == "Ingress":
                secure = [host for tls in spec.get("tls") or [] for host in tls["hosts"]]
                for rule in spec.get("rules") or []:
                    if secure and rule.get("host") not in secure:
                        self.complain(document, f"the rule of {rule.get('host')} is without TLS")
                    for path in rule["http"]["paths"]:
                        self.check_backend(document, path, services)

    def admits(self, pod, number):
        """Returns True if a NetworkPolicy allows clients to reach this port of a pod."""
        policies = [d["spec"] for d in self.documents if d["kind"] == "NetworkPolicy"]
        policies = [p for p in policies if selects(p["podSelector"], pod["metadata"]["labels"])]
        rules = [rule.get("ports") for policy in policies for rule in policy.get("ingress") or []]
        return any(ports is None or number in [port["port"] for port in ports] for ports in rules)

    def check_policy(self, document, spec):
        def check(pods, rule):
            for port in rule.get("ports") or []:
                if pods and not any(port["port"] in ports_of(pod).values() for pod in pods):
                    self.complain(document, f"none of its pods has the port {port['port']}")

        for rule in spec.get("ingress") or []:
            check(self.selected(spec["podSelector"]), rule)
        for rule in spec.get("egress") or []:
            for peer in rule.get("to") or []:
                if "podSelector" in peer:
                    pods = self.selected(peer["podSelector"])
                    if not pods:
                        self.complain(document, "selects no pod for egress")
                    check(pods, rule)

    def check_monitor(self, document, spec):
        pods = self.selected(spec["selector"])
        wanted = {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
        if not pods:
            self.complain(document, "selects no pod")
        for pod in pods:
            if len(wanted & ports_of(pod).keys()) != 1:
                self.complain(document, f"a pod does not have exactly one of the ports {', '.join(sorted(wanted))}")
            if spec["jobLabel"] not in pod["metadata"]["labels"]:
                self.complain(document, f"a pod has no label {spec['jobLabel']}")

    def check_authentication(self, document, spec):
        for reference in spec.get("secretTargetRef") or []:
            name, key = reference["name"], reference["key"]
            made = self.named("Secret").get(name)
            keys = {**(made.get("data") or {}), **(made.get("stringData") or {})} if made else outside(name)
            if key not in (keys or []):
                self.complain(document, f"there is no {key} in a Secret {name}")

    def check_replicas(self):
        scalers = {}
        for document in self.documents:
            field = {"HorizontalPodAutoscaler": "minReplicas", "ScaledObject": "minReplicaCount"}.get(document["kind"])
            if field:
                scalers[document["spec"]["scaleTargetRef"]["name"]] = document["spec"].get(field, 0)
        for name, document in self.named("Deployment").items():
            replicas = scalers.get(name, document["spec"].get("replicas", 1))
            if replicas < self.least_replicas:
                self.complain(document, f"can have {replicas} replicas; {self.least_replicas} are promised")

    def check_triggers(self, document, spec):
        known = self.named("TriggerAuthentication")
        if not spec.get("triggers"):
            self.complain(document, "has no triggers")
        if not 1 <= spec.get("minReplicaCount", 0) <= spec.get("maxReplicaCount", 100):
            self.complain(document, "minReplicaCount must be at least 1 and at most maxReplicaCount")
        for trigger in spec.get("triggers") or []:
            for key, value in (trigger.get("metadata") or {}).items():
                if not isinstance(value, str):
                    self.complain(document, f"{trigger.get('type')}.{key} must be text")
            reference = (trigger.get("authenticationRef") or {}).get("name")
            if reference and reference not in known:
                self.complain(document, f"there is no TriggerAuthentication {reference}")

    def check_backend(self, document, path, services):
        wanted = path["backend"]["service"]
        service = services.get(wanted["name"])
        ports = [(port.get("name"), port["port"]) for port in service["spec"]["ports"]] if service else []
        if not any(wanted["port"].get("name") == name or wanted["port"].get("number") == number for name, number in ports):
            self.complain(document, f"{path['path']}: there is no Service {wanted['name']} with that port")


def load(file, alerts):
    with open(file, encoding="utf-8") as text:
        documents = [document for document in yaml.safe_load_all(text) if document]
    with open(alerts, encoding="utf-8") as text:
        alerts = yaml.safe_load(text)
    name = re.sub(r"\.yaml$", "", file.rsplit("/", 1)[-1])
    least = next((least for prefix, least in LEAST_REPLICAS.items() if name.startswith(prefix)), 1)
    return name, Manifests(documents, alerts, least)


def main(alerts, *files):
    failed = False
    for file in files:
        name, manifests = load(file, alerts)
        manifests.check()
        print(f"{name}: {manifests.by_schema} objects by the schemas of Kubernetes {' and '.join(VERSIONS)}")
        if manifests.by_structure:
            print(f"{name}: no schema, by structure only: {', '.join(manifests.by_structure)}")
        for wrong in manifests.wrong:
            print(f"{name}: WRONG {wrong}")
        failed |= bool(manifests.wrong) or not manifests.documents
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
