package policy

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// IsForeign tells whether a document is of an API group that another package
// reads, by its apiVersion.
func IsForeign(document *yaml.Node, group string) bool {
	if document.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(document.Content); i += 2 {
		if document.Content[i].Value == "apiVersion" {
			return strings.HasPrefix(document.Content[i+1].Value, group+"/")
		}
	}
	return false
}
