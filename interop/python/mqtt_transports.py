"""Publishes and reads back with paho-mqtt over TCP or WebSocket, with or without TLS.

    mqtt_transports.py HOST PORT tcp|websockets [CA.pem]
"""
import queue
import sys

import paho.mqtt.client as mqtt

host, port, transport = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def client(version):
    c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version, transport=transport)
    if len(sys.argv) > 4:
        c.tls_set(ca_certs=sys.argv[4])
    if transport == "websockets":
        c.ws_set_options(path="/mqtt")
    c.connect(host, port)
    c.loop_start()
    return c


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    for qos in (0, 1, 2):
        topic = "python/%s/%d/%d" % (transport, version, qos)
        got, ready = queue.Queue(), queue.Queue()
        sub = client(version)
        sub.on_message = lambda c, u, m: got.put(m.payload)
        sub.on_subscribe = lambda c, u, mid, codes, props: ready.put(codes)
        sub.subscribe(topic, qos)
        ready.get(timeout=10)
        pub = client(version)
        want = [b"%d" % i for i in range(100)] + [b"x" * 300000]
        for payload in want:
            pub.publish(topic, payload, qos).wait_for_publish(10)
        if [got.get(timeout=10) for _ in want] != want:
            sys.exit("version %d QoS %d: something else came" % (version, qos))
        for c in (pub, sub):
            c.disconnect()
            c.loop_stop()
        print("ok", version, qos)
