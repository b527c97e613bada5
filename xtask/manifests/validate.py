"""Validates rendered manifests: by the schemas of Kubernetes where there is one, and by what they say
of each other. Takes file names, prints what is wrong, exits with 1 where anything is."""

import re
import sys
from fnmatch import fnmatchcase

import kubernetes_validate
import yaml

# The oldest minor version whose fields are used, and the newest whose schemas are known here.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
# Made by operators or other programs before these manifests are applied.
OUTSIDE = ["*-connections", "messages-tls"]


def pod_of(document):
    return document.get("spec", {}).get("template", {})


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
    def __init__(self, documents):
        self.documents = documents
        self.wrong = []
        self.by_schema = 0
        self.by_structure = []

    def complain(self, document, text):
        name = document.get("metadata", {}).get("name", "?")
        self.wrong.append(f"{document.get('kind', '?')}/{name}: {text}")

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
                self.complain(document, "its pods get a token")
            if spec.get("securityContext", {}).get("runAsNonRoot") is not True:
                self.complain(document, "its pods may run as root")
            for container in spec["containers"]:
                environment = dict(self.environment(document, container, settings))
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    if probe not in container:
                        self.complain(document, f"{container['name']} has no {probe}")
                if container.get("securityContext", {}).get("allowPrivilegeEscalation") is not False:
                    self.complain(document, f"{container['name']} may escalate its privileges")
                self.check_stop(document, container, environment)
            for volume in spec.get("volumes") or []:
                name = volume.get("configMap", {}).get("name")
                if name and name not in settings["ConfigMap"]:
                    self.complain(document, f"there is no ConfigMap {name}")

    def environment(self, document, container, settings):
        for source in container.get("envFrom") or []:
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                name = source.get(field, {}).get("name")
                if name in settings[kind]:
                    yield from (settings[kind][name].get("data") or {}).items()
                elif name and not any(fnmatchcase(name, pattern) for pattern in OUTSIDE):
                    self.complain(document, f"there is no {kind} {name}")
        for entry in container.get("env") or []:
            yield entry["name"], entry.get("value")

    def check_stop(self, document, container, environment):
        if "SHUTDOWN_GRACE_MS" not in environment:
            return
        drain = (int(environment["DRAIN_DELAY_MS"]) + int(environment["SHUTDOWN_GRACE_MS"])) / 1000
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        period = pod_of(document)["spec"].get("terminationGracePeriodSeconds", 30)
        if period <= pause + drain:
            self.complain(document, f"is killed after {period} s, and takes {pause + drain} s to stop")

    def check_references(self):
        pods = [pod_of(d) for d in self.documents if d["kind"] in ("Deployment", "StatefulSet")]
        services = self.named("Service")
        for document in self.documents:
            kind, spec = document["kind"], document.get("spec") or {}
            if kind == "Service":
                found = [pod for pod in pods if selects({"matchLabels": spec["selector"]}, pod["metadata"]["labels"])]
                ports = {p.get("name") for pod in found for c in pod["spec"]["containers"] for p in c.get("ports") or []}
                for port in spec["ports"]:
                    if port.get("targetPort") not in ports:
                        self.complain(document, f"no pod has its port {port.get('targetPort')}")
            elif kind in ("PodDisruptionBudget", "NetworkPolicy"):
                selector = spec.get("selector") or spec.get("podSelector") or {}
                if not any(selects(selector, pod["metadata"]["labels"]) for pod in pods):
                    self.complain(document, "selects no pod")
            elif kind in ("HorizontalPodAutoscaler", "ScaledObject"):
                target = spec.get("scaleTargetRef") or {}
                if target.get("name") not in self.named(target.get("kind", "Deployment")):
                    self.complain(document, f"there is no {target}")
                if kind == "ScaledObject":
                    self.check_triggers(document, spec)
            elif kind == "Ingress":
                for rule in spec.get("rules") or []:
                    for path in rule["http"]["paths"]:
                        self.check_backend(document, path, services)

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


def main(files):
    failed = False
    for file in files:
        with open(file, encoding="utf-8") as text:
            manifests = Manifests([document for document in yaml.safe_load_all(text) if document])
        manifests.check()
        name = re.sub(r"\.yaml$", "", file.rsplit("/", 1)[-1])
        print(f"{name}: {manifests.by_schema} objects by the schemas of Kubernetes {' and '.join(VERSIONS)}")
        if manifests.by_structure:
            print(f"{name}: no schema, by structure only: {', '.join(manifests.by_structure)}")
        for wrong in manifests.wrong:
            print(f"{name}: WRONG {wrong}")
        failed |= bool(manifests.wrong) or not manifests.documents
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
