// Package mqtt serves MQTT 3.1, 3.1.1 and 5.0: the front end through which devices publish and subscribe.
//
// In. A connection has one goroutine that reads. What one read of the socket yields is one slice (slice.go): its PUBLISHes
// are written into the slice's arena as record payloads and go to edge.Broker.Ingest as one call; its acknowledgements wait
// until that is durable. Reading goes on meanwhile, so that a client with a thousand messages in flight gets their
// acknowledgements from one or two commits. Done only marks the slice and sees to it that someone writes: outbox.go starts a
// goroutine when there is something to write, and it ends when there is nothing left, so that an idle connection costs one
// goroutine. After two idle seconds that one is replaced by one with the smallest stack, which has no buffer either (park.go).
//
// QoS 2. A packet id is remembered in the very frame that holds its message, and forgotten in a durable frame before PUBCOMP
// leaves (inbound.go). Only sessions that outlive their connection need that; others remember in memory.
//
// Out. Subscribers read the log. One dispatcher (dispatch.go) reads the frames as they become durable, decodes each batch once,
// looks each topic up in the tree of subscriptions (tree.go, with a cache), encodes each PUBLISH once per form (message.go)
// and appends it to the subscribers' outboxes. A subscriber without room, or with a full window of unacknowledged messages,
// is left behind at its position: it loses nothing and holds up nobody. As soon as there is room it reads the log from
// there by itself (catchup.go) until it is level, and joins the dispatcher again. A session (session.go) is therefore
// subscriptions, one position and the messages in flight, never a queue of messages; one that outlives its connection is
// kept in the store as just that (persist.go).
//
// Not logged. What goes to a route with `store: none` is acknowledged on receipt and handed to the dispatcher (live.go), which
// delivers it between two frames. A session that is not level with the dispatcher gets it set aside, within bounds, and before
// more of the log. Nothing of it is kept for clients that are not connected, nor sent again after a reconnect.
//
// QoS 2 out waits for what makes it exactly once: outgoing.go. A shared subscription (share.go) has a position of its own;
// it delivers, as the dispatcher does, to the sessions of its members that are live.
//
// Locks, in the order in which they are taken: dispatcher.mu, session.mu, share.mu, tree.mu, conn.out.mu. Server.mu is taken with none
// of them held.
package mqtt
