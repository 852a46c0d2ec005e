// Package auth says who a client is and what it may do: one model for MQTT, Kafka and HTTP.
//
// A front end makes a login of what its client sent, and gets a principal:
//
//	Anonymous(c)                     it sent nothing
//	Password(ctx, user, pw, c)       MQTT user name and password, HTTP basic; a JWT as password counts as a token
//	Begin(mechanism, c) → Exchange   SASL and MQTT 5 enhanced authentication: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
//	Token(ctx, jwt, c)               HTTP bearer
//	Certificate(c)                   what TLS has verified already
//
// What a client says counts before its certificate. Every failed login is counted here by its address, delayed answers included:
// ErrThrottled means that nothing was checked. Logins are in the audit log; nothing of a secret is in any log or error.
//
// The principal goes with every call of edge.Broker.Allow, which asks Authority.Allow: a look at the decisions that the
// principal's session remembers, else the rules. A front end may keep an answer as long as edge.Broker.Epoch is the same.
//
//	Watch(fn)   is called when users or rules changed. Then the front end ends the connections whose principal Valid refuses
//	            (user deleted, disabled, password changed; token expired), and asks again for what it granted for longer than one
//	            request: subscriptions, wills, shared groups.
//	Expires     of the principal: the connection ends then (a timer of the front end); Allow refuses everything after it.
//
// An MQTT session belongs to the user that made it: a client id alone must not give another user its subscriptions. The front
// end compares Principal.Name with what it stored beside the session, and asks again for the subscriptions when it resumes.
//
// # Rules
//
// A rule allows or denies actions on a resource to a user (rule.go). Deny goes over allow. What no rule speaks of is denied, but
// for a broker on which nobody can log in and that has no rule: there everything is allowed. A subscription is allowed when one
// rule covers its whole filter, and no denying rule overlaps it. {user}, {client} and {edge} in a resource stand for one
// piece of text; a value that is empty or holds +, #, / or NUL makes the rule match nothing.
//
//	Explain     says which rule decided
//	Rules, AddRules, DeleteRules; Users, SetPassword, PutCredential, DeleteUser   change what the store holds; durable on return
//
// # Inside
//
// All that decisions look at is one immutable state behind an atomic pointer; changes make a new one under Authority.mu and
// store it after the store's commit. A principal's session remembers up to 32 decisions, each with the generation of the state
// that it came from, without locks. PBKDF2 runs on at most half the processors, on threads that make way for others (giveWay), so
// that a thousand devices that come back at once leave the broker responsive. Goroutines: one that writes the audit topic, from Start to Close, and those of the watchers' calls.
package auth
