// Package check holds the examples against what they are written for. A module of
// its own, so that what that takes is no dependency of dsvault.
package check

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCompose loads the file as Compose does, by its schema.
func TestCompose(t *testing.T) {
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  "..",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: read(t, "compose.yaml")}},
		Environment: types.Mapping{"POSTGRES_PASSWORD": "one", "DSVAULT_PASSPHRASE": "two"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if names := project.ServiceNames(); !slices.Equal(names, []string{"db", "vault"}) {
		t.Errorf("it has %q", names)
	}
}

// TestKubernetes reads every manifest as what it says that it is: a field that is
// not there, or of another type, is an error.
func TestKubernetes(t *testing.T) {
	kinds := map[string]func() any{
		"v1 ConfigMap":             func() any { return new(corev1.ConfigMap) },
		"v1 PersistentVolumeClaim": func() any { return new(corev1.PersistentVolumeClaim) },
		"v1 Service":               func() any { return new(corev1.Service) },
		"batch/v1 Job":             func() any { return new(batchv1.Job) },
		"apps/v1 Deployment":       func() any { return new(appsv1.Deployment) },
		"policy/v1 PodDisruptionBudget": func() any {
			return new(policyv1.PodDisruptionBudget)
		},
	}
	var seen []string
	for _, document := range bytes.Split(read(t, "kubernetes.yaml"), []byte("\n---\n")) {
		var what struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(document, &what); err != nil {
			t.Fatal(err)
		}
		name := what.APIVersion + " " + what.Kind
		make, ok := kinds[name]
		if !ok {
			t.Fatalf("%q is nothing that this test knows", name)
		}
		if err := yaml.UnmarshalStrict(document, make()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		seen = append(seen, name)
	}
	if len(seen) != len(kinds) {
		t.Errorf("it has %s", strings.Join(seen, ", "))
	}
}
