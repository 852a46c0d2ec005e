// Package http is the broker's HTTP side: health, metrics, the JSON API that the command line and the console use, and the
// console itself.
//
//	Server (server.go)   one mux over one table of routes (routes.go), from which /openapi.json is made, too
//	handlers             one noun a file: broker, topics, records, groups, plugins, attachments; uplinks and bridges (links.go)
//	problem.go           every error that a handler returns becomes application/problem+json by one table
//	pace.go, text.go     what a body may cost in time and memory, and what is JSON in it
//	live.go, tail.go     server-sent events for the console
//	console.go           plain HTML, CSS and JavaScript under go:embed; nothing is fetched from elsewhere
//
// An answer with a 2xx status to a change leaves after the change is durable.
//
// Handlers know edge.Broker and, of the mirror, only the interface Links that the program wires. Goroutines: those of
// net/http; event streams end when the server closes. Browsers of other origins are refused by CrossOriginProtection.
package http
