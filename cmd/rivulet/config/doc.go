// Package config reads the configuration of `rivulet serve`.
//
// A file is YAML, one document, without aliases. Everything that is wrong with it is reported at once, each error with
// file:line:column: unknown keys with the nearest known one, values that do not fit, and what this version cannot do yet
// ("not supported yet: …"), since a setting that is silently ignored is worse than none. Every key can also be given in the
// environment: RIVULET_ and its path in capitals with _, such as RIVULET_STORAGE_TAIL_BYTES; lists and maps there are YAML.
//
//	Default ─► Load (file, decode.go) ─► environment (env.go) ─► Check (check.go)
//
// The flags of serve are laid over the result by the caller, who then calls Check. Struct tags say what a key takes:
//
//	yaml   its name
//	oneof  the words that it may hold
//	later  it is known, and any value but its zero one is refused
//
// examples/rivulet.yaml shows all keys; a test loads it.
package config
