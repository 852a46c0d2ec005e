"""Produce with keys and acks=all, consume in a group, commit, and go on where the group stopped.

    kafka_group.py BOOTSTRAP TOPIC GROUP COUNT

Nothing is configured but the address and what the test is about. Exits with 0 when everything arrived once and in order per key.
"""
import sys

import kafka

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
print("kafka-python", kafka.__version__)


def produce(first, n):
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    futures = [
        producer.send(topic, key=b"k%d" % (i % 7), value=b"%06d" % i, headers=[("n", b"%d" % i)])
        for i in range(first, first + n)
    ]
    producer.flush(30)
    offsets = {}
    for f in futures:
        m = f.get(timeout=10)
        offsets.setdefault(m.partition, []).append(m.offset)
    for partition, got in offsets.items():
        assert got == list(range(got[0], got[0] + len(got))), (partition, got)
    producer.close()


def consume(first, n):
    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=20000
    )
    by_key = {}
    seen = 0
    for m in consumer:
        assert dict(m.headers)["n"] == b"%d" % int(m.value), m
        by_key.setdefault(m.key, []).append(int(m.value))
        seen += 1
        if seen == n:
            break
    consumer.commit()
    consumer.close()
    want = {}
    for i in range(first, first + n):
        want.setdefault(b"k%d" % (i % 7), []).append(i)
    assert by_key == want, "consumed %d, want %d from %d" % (seen, n, first)


produce(0, count)
consume(0, count)
produce(count, 100)
consume(count, 100)
print("ok")
