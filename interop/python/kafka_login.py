"""Log in, produce with acks=all, and read it back in a group.

    kafka_login.py BOOTSTRAP NAME MECHANISM USER SECRET [CAFILE]

MECHANISM is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (SECRET is the token), or CERTIFICATE (USER is its file, SECRET the key's).
NAME begins the topic's and the group's names. Exits with 0 when what was written was read.
"""
import sys

import kafka

bootstrap, name, mechanism, user, secret = sys.argv[1:6]
ca = sys.argv[6] if len(sys.argv) > 6 else None


def token_provider():
    """2.0 takes any object, newer versions want theirs."""
    try:
        from kafka.net.sasl.oauth import AbstractTokenProvider
    except ImportError:
        from kafka.oauth.abstract import AbstractTokenProvider

    class Provider(AbstractTokenProvider):
        def token(self):
            return secret

    return Provider()


settings = dict(bootstrap_servers=bootstrap, request_timeout_ms=15000)
if mechanism == "CERTIFICATE":
    settings.update(security_protocol="SSL", ssl_certfile=user, ssl_keyfile=secret)
else:
    settings.update(security_protocol="SASL_SSL" if ca else "SASL_PLAINTEXT", sasl_mechanism=mechanism)
    if mechanism == "OAUTHBEARER":
        settings.update(sasl_oauth_token_provider=token_provider())
    else:
        settings.update(sasl_plain_username=user, sasl_plain_password=secret)
if ca:
    settings.update(ssl_cafile=ca)

topic = "%s-%s" % (name, mechanism)
producer = kafka.KafkaProducer(acks="all", max_block_ms=8000, **settings)
for i in range(10):
    producer.send(topic, b"%d" % i).get(timeout=15)
producer.close()
settings["request_timeout_ms"] = 40000
consumer = kafka.KafkaConsumer(topic, group_id=topic, auto_offset_reset="earliest", consumer_timeout_ms=15000, **settings)
got = []
for m in consumer:
    got.append(int(m.value))
    if len(got) == 10:
        break
consumer.close()
assert got == list(range(10)), got
print("ok")
