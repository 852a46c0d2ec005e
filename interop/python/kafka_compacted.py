"""Read a topic from its start until nothing follows for two seconds, and print every record.

    kafka_compacted.py BOOTSTRAP TOPIC
"""
import sys

import kafka

consumer = kafka.KafkaConsumer(
    sys.argv[2], bootstrap_servers=sys.argv[1], auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=2000
)
last = -1
for m in consumer:
    assert m.offset > last, m
    last = m.offset
    if m.key.startswith(b"\0\0"):
        continue  # kafka-python 2.0.2 takes the markers of transactions for records, of every broker
    print(m.key.decode() + "\t" + ("null" if m.value is None else m.value.decode()))
consumer.close()
