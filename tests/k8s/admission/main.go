// Applies a MutatingAdmissionPolicy to a Pod with the API server's own code, without a cluster: reads
// the policy (first document) from the file named, a Pod as JSON from stdin, and prints the Pod that
// would be created.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	admission "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	server "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func main() {
	ctx := context.Background()
	var policy admission.MutatingAdmissionPolicy
	file := must(os.Open(os.Args[1]))
	must(0, yaml.NewYAMLOrJSONDecoder(file, 4096).Decode(&policy))
	pod := &core.Pod{}
	must(0, json.Unmarshal(must(io.ReadAll(os.Stdin)), pod))

	compiler := must(cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())))
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	var object runtime.Object = pod
	attributes := func() *server.VersionedAttributes {
		record := server.NewAttributesRecord(object, nil, kind, "shop", pod.Name, resource, "", server.Create, nil, false, nil)
		return &server.VersionedAttributes{Attributes: record, VersionedKind: kind, VersionedObject: object}
	}

	var conditions []cel.ExpressionAccessor
	for index := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[index]))
	}
	compiled := compiler.CompileCondition(conditions, options, environment.StoredExpressions)
	matched := matchconditions.NewMatcher(compiled, policy.Spec.FailurePolicy, "policy", "mutate", policy.Name).
		Match(ctx, attributes(), nil, nil)
	must(0, matched.Error)
	if matched.Matches {
		options.HasPatchTypes = true
		for _, mutation := range policy.Spec.Mutations {
			accessor := &patch.JSONPatchCondition{Expression: mutation.JSONPatch.Expression}
			evaluator := compiler.CompileMutatingEvaluator(accessor, options, environment.StoredExpressions)
			object = must(patch.NewJSONPatcher(evaluator).Patch(ctx, patch.Request{
				MatchedResource:     resource,
				VersionedAttributes: attributes(),
				ObjectInterfaces:    server.NewObjectInterfacesFromScheme(scheme.Scheme),
			}, celconfig.RuntimeCELCostBudget))
		}
	}
	must(0, json.NewEncoder(os.Stdout).Encode(object))
}
