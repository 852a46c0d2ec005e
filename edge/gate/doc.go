// Package gate bounds what clients may cost before they have said who they are, and how many of them there may be.
//
// A Gate stands in front of the listeners of one protocol, below TLS, so that nothing is spent on a connection that it
// refuses. It knows connections by address: an IPv4 address, or the /64 of an IPv6 one, which is what one subscriber
// commonly holds. Connections without an address (unix sockets) pass uncounted.
//
// # What is bounded
//
//   - Connections, in all and per address. One too many is closed at once.
//   - New connections a second, per address: one too many is closed at once; and in all: the listener then waits, so
//     that a thousand devices that come back together are let in one after the other rather than refused, and leave room on the
//     processors for those who are in. It waits, too, while many passwords are being checked (Options.Waiting).
//   - Pending connections, those that have not yet authenticated. When there are too many, the oldest of the address
//     that has most of them is closed for the newcomer: a flood displaces itself, not others.
//   - The time that a connection may be pending, from accept over TLS to the end of authentication, however slowly its
//     bytes drip in.
//
// Behind a proxy that speaks the PROXY protocol all connections have its address. They count in all, are bounded in time, and displace
// each other, until whoever read the proxy's header calls Name; from then on they count for their client's address.
//
// A front end calls Admit when its client has authenticated. From then on the connection counts as a connection only,
// and costs nothing here until it is closed.
//
// # Goroutines
//
// There are none. A pending connection has a timer. One mutex guards the counts; it is held for a map access, and in a
// flood for a walk over the addresses with pending connections, of which there are at most Options.Pending.
package gate
