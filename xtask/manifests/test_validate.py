"""That the validator notices: each test breaks one thing in the manifests of production, rendered with
all components in the working directory, and wants a complaint about it. Takes the file of the alerts."""

import sys
import unittest

from validate import load

FILE, ALERTS = "production-with-components.yaml", sys.argv.pop(1)


def pod(document):
    return document["spec"]["template"]["spec"]


class Complaints(unittest.TestCase):
    def complaints(self, kind, name, change, schemas=False):
        _, manifests = load(FILE, ALERTS)
        if not schemas:  # They take a second.
            manifests.check_schema = lambda _: None
        change(manifests.named(kind)[name])
        manifests.check()
        return "\n".join(manifests.wrong)

    def test_nothing_is_wrong_as_it_is(self):
        self.assertEqual(self.complaints("Deployment", "gateway", lambda _: None), "")

    def test_fields_that_kubernetes_does_not_know(self):
        complaints = self.complaints("Deployment", "gateway", lambda d: d["spec"].update(replica=3), schemas=True)
        self.assertIn("'replica' was unexpected", complaints)

    def test_containers_that_keep_capabilities(self):
        complaints = self.complaints("Deployment", "gateway", lambda d: pod(d)["containers"][0]["securityContext"].pop("capabilities"))
        self.assertIn("gateway keeps capabilities", complaints)

    def test_pods_without_a_seccomp_profile(self):
        complaints = self.complaints("Deployment", "gateway", lambda d: pod(d)["securityContext"].pop("seccompProfile"))
        self.assertIn("gateway has no seccompProfile", complaints)

    def test_fewer_replicas_than_promised(self):
        complaints = self.complaints("ScaledObject", "storage-worker", lambda d: d["spec"].update(minReplicaCount=2))
        self.assertIn("can have 2 replicas", complaints)

    def test_pods_that_are_killed_while_they_drain(self):
        complaints = self.complaints("Deployment", "gateway", lambda d: pod(d).update(terminationGracePeriodSeconds=35))
        self.assertIn("is killed after 35 s", complaints)

    def test_policies_for_a_port_that_nobody_has(self):
        complaints = self.complaints(
            "NetworkPolicy", "clients-to-gateway", lambda d: d["spec"]["ingress"][0]["ports"][0].update(port=8080)
        )
        self.assertIn("clients-to-gateway: none of its pods has the port 8080", complaints)
        self.assertIn("Service/gateway: no NetworkPolicy allows clients to reach its port http", complaints)

    def test_keys_that_no_secret_has(self):
        complaints = self.complaints(
            "TriggerAuthentication", "broker", lambda d: d["spec"]["secretTargetRef"][0].update(key="AMQP_URL")
        )
        self.assertIn("there is no AMQP_URL", complaints)

    def test_mounts_without_a_volume(self):
        complaints = self.complaints("Deployment", "gateway", lambda d: pod(d).pop("volumes"))
        self.assertIn("there is no volume authority", complaints)

    def test_pods_that_nobody_scrapes(self):
        complaints = self.complaints("PodMonitor", "messages", lambda d: d["spec"]["podMetricsEndpoints"].pop())
        self.assertIn("does not have exactly one of the ports", complaints)

    def test_alerts_that_differ(self):
        complaints = self.complaints("PrometheusRule", "messages", lambda d: d["spec"]["groups"][0]["rules"].pop())
        self.assertIn("differs from the alerts file", complaints)

    def test_hosts_without_tls(self):
        complaints = self.complaints("Ingress", "messages", lambda d: d["spec"]["rules"][0].update(host="other.example.com"))
        self.assertIn("without TLS", complaints)


if __name__ == "__main__":
    unittest.main()
