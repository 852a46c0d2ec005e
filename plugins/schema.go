package plugins

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// schemaFuncs is Redpanda's module redpanda_schema_registry. JavaScript guests import it whether or not they use it;
// there is no registry, and all its functions say so.
func schemaFuncs() []hostFunc {
	none := func(_ context.Context, _ api.Module, stack []uint64) { code(stack, -1) }
	one := i32s(1)
	return []hostFunc{
		{"check_abi_version_0", marker, nil, nil},
		{"get_schema_definition_len", none, i32s(2), one},
		{"get_schema_definition", none, i32s(3), one},
		{"get_subject_schema_len", none, i32s(4), one},
		{"get_subject_schema", none, i32s(5), one},
		{"create_subject_schema", none, i32s(5), one},
	}
}
