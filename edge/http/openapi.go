package http

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"time"
)

func (s *Server) openapiRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/openapi.json", does: "this description", out: map[string]any{}, open: true, handle: s.openapi},
	}
}

// object is a JSON object.
type object = map[string]any

// openapi describes the table of routes, of which the mux is made.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	schemas := object{}
	problem := object{
		"description": "what went wrong (RFC 9457)",
		"content":     object{"application/problem+json": object{"schema": schemaOf(reflect.TypeFor[Problem](), schemas)}},
	}
	paths := object{}
	for _, rt := range s.table {
		path := strings.TrimSuffix(rt.path, "{$}")
		item, _ := paths[path].(object)
		if item == nil {
			item = object{}
			paths[path] = item
		}
		item[strings.ToLower(rt.method)] = operation(rt, schemas, problem)
	}
	return answer(w, http.StatusOK, object{
		"openapi":    "3.1.0",
		"info":       object{"title": "Rivulet", "version": s.o.Version, "description": "The broker's API. What changes something is answered after the change is durable."},
		"paths":      paths,
		"components": object{"schemas": schemas},
	})
}

var pathParameter = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}`)

func operation(rt route, schemas, problem object) object {
	op := object{"summary": rt.does}
	var params []object
	for _, m := range pathParameter.FindAllStringSubmatch(rt.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range rt.query {
		params = append(params, object{"name": q.name, "in": "query", "description": q.does, "schema": object{"type": "string"}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if rt.in != nil {
		content, schema := object{}, object{"schema": schemaOf(reflect.TypeOf(rt.in), schemas)}
		for _, kind := range rt.takes() {
			content[kind] = schema
		}
		op["requestBody"] = object{"required": true, "content": content}
	} else if rt.method == http.MethodPut && rt.contentType != "" {
		op["requestBody"] = object{"required": true, "content": object{rt.contentType: object{"schema": object{"type": "string", "format": "binary"}}}}
	}
	ok := object{"description": "done"}
	switch {
	case rt.out != nil && rt.contentType != "" && rt.method != http.MethodPut:
		ok["content"] = object{rt.contentType: object{"schema": schemaOf(reflect.TypeOf(rt.out), schemas)}}
	case rt.out != nil:
		ok["content"] = object{"application/json": object{"schema": schemaOf(reflect.TypeOf(rt.out), schemas)}}
	case rt.contentType != "":
		ok["content"] = object{rt.contentType: object{}}
	}
	op["responses"] = object{"2XX": ok, "default": problem}
	return op
}

// takes are the media types of a JSON body.
func (rt route) takes() []string {
	if rt.contentType == restAnswer {
		return []string{restBinary, restJSON}
	}
	return []string{"application/json"}
}

// schemaOf describes a Go type as encoding/json writes it; structs become named schemas.
func schemaOf(t reflect.Type, schemas object) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[Data]():
		return object{
			"description": "a string when the bytes are text, else base64",
			"oneOf": []object{
				{"type": "string"},
				{"type": "null"},
				{"type": "object", "properties": object{"base64": object{"type": "string", "contentEncoding": "base64"}}, "required": []string{"base64"}},
			},
		}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.Pointer: // may be null
		return object{"anyOf": []object{schemaOf(t.Elem(), schemas), {"type": "null"}}}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Struct:
		ref := object{"$ref": "#/components/schemas/" + t.Name()}
		if _, ok := schemas[t.Name()]; ok {
			return ref
		}
		s := object{"type": "object"}
		schemas[t.Name()] = s // before its fields, which may hold it
		properties, required := object{}, []string{}
		structFields(t, schemas, properties, &required)
		s["properties"] = properties
		if len(required) > 0 {
			s["required"] = required
		}
		return ref
	default:
		return object{} // anything
	}
}

func structFields(t reflect.Type, schemas, properties object, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			structFields(f.Type, schemas, properties, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = schemaOf(f.Type, schemas)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}
