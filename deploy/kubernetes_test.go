package deploy

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const hubNamespace = "telemesh-system"

// manifests are the objects of kubernetes/, each strictly decoded.
type manifests struct {
	namespace corev1.Namespace
	account   corev1.ServiceAccount
	policies  corev1.ConfigMap
	service   corev1.Service
	set       appsv1.StatefulSet
	budget    policyv1.PodDisruptionBudget
	network   networkingv1.NetworkPolicy
}

func loadManifests(t *testing.T) *manifests {
	t.Helper()
	var m manifests
	targets := map[string]any{
		"v1/Namespace": &m.namespace, "v1/ServiceAccount": &m.account, "v1/ConfigMap": &m.policies, "v1/Service": &m.service,
		"apps/v1/StatefulSet": &m.set, "policy/v1/PodDisruptionBudget": &m.budget, "networking.k8s.io/v1/NetworkPolicy": &m.network,
	}
	var kustomization struct {
		metav1.TypeMeta
		Resources []string
		Images    []struct{ Name, NewTag string }
	}
	if err := yaml.UnmarshalStrict(read(t, "kubernetes/kustomization.yaml"), &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, file := range kustomization.Resources {
		for _, doc := range documents(t, filepath.Join("kubernetes", file)) {
			kind := doc["apiVersion"].(string) + "/" + doc["kind"].(string)
			target, ok := targets[kind]
			if !ok {
				t.Fatalf("%s: unexpected or repeated %s", file, kind)
			}
			delete(targets, kind)
			content, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			if err := yaml.UnmarshalStrict(content, target); err != nil {
				t.Errorf("%s: %s: %v", file, kind, err)
			}
		}
	}
	for kind := range targets {
		t.Errorf("no %s", kind)
	}
	return &m
}

func TestManifestsBelongTogether(t *testing.T) {
	m := loadManifests(t)
	pod := m.set.Spec.Template
	for name, object := range map[string]metav1.Object{
		"ServiceAccount": &m.account, "ConfigMap": &m.policies, "Service": &m.service,
		"StatefulSet": &m.set, "PodDisruptionBudget": &m.budget, "NetworkPolicy": &m.network,
	} {
		if object.GetNamespace() != hubNamespace || object.GetLabels()["app.kubernetes.io/name"] != "mesh-hub" {
			t.Errorf("%s is in namespace %q with labels %v", name, object.GetNamespace(), object.GetLabels())
		}
	}
	if m.namespace.Name != hubNamespace || m.namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %q with %v", m.namespace.Name, m.namespace.Labels)
	}
	for name, selector := range map[string]map[string]string{
		"Service": m.service.Spec.Selector, "StatefulSet": m.set.Spec.Selector.MatchLabels,
		"PodDisruptionBudget": m.budget.Spec.Selector.MatchLabels, "NetworkPolicy": m.network.Spec.PodSelector.MatchLabels,
	} {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s selects %v, which is not the hub's pod", name, selector)
		}
	}
	if m.set.Spec.ServiceName != m.service.Name || pod.Spec.ServiceAccountName != m.account.Name {
		t.Errorf("service %q, account %q", m.set.Spec.ServiceName, pod.Spec.ServiceAccountName)
	}
	checkPorts(t, m)
	checkVolumes(t, m)
}

func checkPorts(t *testing.T, m *manifests) {
	t.Helper()
	ports := map[string]int32{}
	for _, p := range m.set.Spec.Template.Spec.Containers[0].Ports {
		ports[p.Name] = p.ContainerPort
	}
	if ports["http"] != 15080 || ports["grpc"] != 15010 || len(ports) != 2 {
		t.Errorf("container ports %v", ports)
	}
	for _, p := range m.service.Spec.Ports {
		if p.Port != ports[p.TargetPort.StrVal] {
			t.Errorf("service port %s leads to %v", p.Name, p.TargetPort)
		}
	}
	for _, rule := range m.network.Spec.Ingress {
		for _, p := range rule.Ports {
			if _, ok := ports[p.Port.StrVal]; !ok || len(rule.From) == 0 {
				t.Errorf("network policy opens %v to %v", p.Port, rule.From)
			}
		}
	}
	if !slices.Contains(m.network.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) || len(m.network.Spec.Egress) != 0 {
		t.Error("the hub may open connections, and has no need to")
	}
}

func checkVolumes(t *testing.T, m *manifests) {
	t.Helper()
	pod := m.set.Spec.Template.Spec
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && v.ConfigMap.Name != m.policies.Name {
			t.Errorf("volume %s is of config map %q", v.Name, v.ConfigMap.Name)
		}
	}
	for _, claim := range m.set.Spec.VolumeClaimTemplates {
		volumes[claim.Name] = true
	}
	c := pod.Containers[0]
	mounted := map[string]bool{}
	for _, v := range c.VolumeMounts {
		mounted[v.MountPath] = true
		if !volumes[v.Name] {
			t.Errorf("no volume %s", v.Name)
		}
	}
	for _, arg := range []string{"--data-dir=/var/lib/telemesh", "--policy-dir=/etc/telemesh/policies"} {
		_, path, _ := strings.Cut(arg, "=")
		if !slices.Contains(c.Args, arg) || !mounted[path] {
			t.Errorf("%s is not given, or not mounted: %v", arg, mounted)
		}
	}
	checkFlags(t, "StatefulSet", "mesh-hub", c.Args)
}

// TestHubMeetsTheRestrictedProfile holds what the namespace enforces: Pod
// Security Standards, profile restricted.
func TestHubMeetsTheRestrictedProfile(t *testing.T) {
	m := loadManifests(t)
	pod := m.set.Spec.Template.Spec
	c := pod.Containers[0]
	yes := func(b *bool) bool { return b != nil && *b }
	no := func(b *bool) bool { return b != nil && !*b }
	for claim, holds := range map[string]bool{
		"runs as non-root":            yes(pod.SecurityContext.RunAsNonRoot),
		"has a seccomp profile":       pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"cannot escalate":             no(c.SecurityContext.AllowPrivilegeEscalation),
		"drops all capabilities":      slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"has a read-only root":        yes(c.SecurityContext.ReadOnlyRootFilesystem),
		"has no token":                no(pod.AutomountServiceAccountToken) && no(m.account.AutomountServiceAccountToken),
		"has requests and a limit":    !c.Resources.Requests.Cpu().IsZero() && !c.Resources.Limits.Memory().IsZero(),
		"is probed":                   c.StartupProbe != nil && c.ReadinessProbe != nil && c.LivenessProbe != nil,
		"does not block a drain":      m.budget.Spec.MaxUnavailable.IntValue() == 1 && m.budget.Spec.MinAvailable == nil,
		"is the only one on its disk": *m.set.Spec.Replicas == 1,
	} {
		if !holds {
			t.Errorf("not true that the hub %s", claim)
		}
	}
}
