package edge

import (
	"fmt"
	"strings"

	"rivulet/storage/batch"
)

// A record of a Kafka or HTTP producer claims the MQTT topic under which subscribers get it: by its header mqtt.topic, on topics that
// routes write to and on DefaultTopic, and there by its key, too (MQTTName). The claim is looked at before the record is stored, since
// who reads does not know who wrote.

// claimedHeader is what a header becomes that its producer may not set: what a user property of that name is stored as.
const claimedHeader = "user." + HeaderTopic

// everywhere is an Authorizer that knows who may do something wherever they like, so that their batches need no look inside.
type everywhere interface {
	AllowsEverywhere(p *Principal, op Op) bool
}

// mustClaim reports whether records of p for a topic have to be looked at. A nil principal is the broker itself.
func (b *Broker) mustClaim(p *Principal, topic string) bool {
	if p == nil || b.o.Authorize == nil || topic != DefaultTopic && !b.routes.Load().writesTo(topic) {
		return false
	}
	e, ok := b.o.Authorize.(everywhere)
	return !ok || !e.AllowsEverywhere(p, OpPublish)
}

// claim returns the payload as it may be stored: a header mqtt.topic that p may not set is renamed, so that the record's name is made
// of topic and key. In DefaultTopic the key alone is the name: a record with a key that p may not publish to is refused.
func (b *Broker) claim(p *Principal, topic string, payload batch.Payload) (out batch.Payload, changed bool, err error) {
	name, ok := payload.Header(HeaderTopic)
	if ok && validName(name) {
		if b.mayName(p, string(name)) {
			return payload, false, nil
		}
		payload, changed = renameHeader(payload), true
	}
	if topic != DefaultTopic {
		return payload, changed, nil
	}
	if key := payload.Key(); validName(key) && !b.mayName(p, string(key)) {
		return payload, changed, fmt.Errorf("a record for MQTT topic %q: %w", key, ErrNotAuthorized)
	}
	return payload, changed, nil
}

// mayName keeps $SYS the broker's own, as the MQTT side does.
func (b *Broker) mayName(p *Principal, name string) bool {
	return !strings.HasPrefix(name, "$SYS/") && b.Allow(p, OpPublish, name)
}

func renameHeader(p batch.Payload) batch.Payload {
	headers := p.Headers(nil)
	for i := range headers {
		if headers[i].Key == HeaderTopic {
			headers[i].Key = claimedHeader
		}
	}
	return batch.AppendPayload(nil, p.Key(), p.Value(), headers)
}

// claimBatch does that for a batch. One whose claims may stand stays as it is.
func (b *Broker) claimBatch(p *Principal, topic string, raw []byte, h batch.Header) ([]byte, batch.Header, error) {
	if !b.mustClaim(p, topic) {
		return raw, h, nil
	}
	recs, err := decodeAll(raw)
	if err != nil {
		return nil, h, err
	}
	any := false
	for i := range recs {
		changed := false
		if recs[i].Payload, changed, err = b.claim(p, topic, recs[i].Payload); err != nil {
			return nil, h, err
		}
		any = any || changed
	}
	if !any {
		return raw, h, nil
	}
	var w batch.Builder
	w.Begin(nil, 0, 0)
	for _, r := range recs {
		w.Add(r.Timestamp, r.Payload)
	}
	out := w.End(h.Attributes&batch.AttrTransactional, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	if h, err = batch.ParseHeader(out); err != nil {
		return nil, h, err
	}
	return out, h, nil
}
