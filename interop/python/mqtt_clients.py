"""Publish and subscribe with Eclipse Paho, versions 3.1.1 and 5, QoS 0, 1 and 2.

    mqtt_clients.py HOST PORT

Exits with 0 when every message of QoS 1 and 2 arrived once and in order, with the properties of version 5.
"""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port = sys.argv[1], int(sys.argv[2])


def run(version, qos):
    topic = "paho/%d/%d" % (version, qos)
    subscribed, received = queue.Queue(), queue.Queue()
    sub = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="sub-%d-%d" % (version, qos), protocol=version)
    sub.on_connect = lambda c, *_: c.subscribe(topic + "/#", qos=min(qos, 1))
    sub.on_subscribe = lambda c, u, mid, codes, props: subscribed.put([r.is_failure for r in codes])
    sub.on_message = lambda c, u, m: received.put(m)
    sub.connect(host, port)
    sub.loop_start()
    assert subscribed.get(timeout=10) == [False]

    pub = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="pub-%d-%d" % (version, qos), protocol=version)
    connected = queue.Queue()
    pub.on_connect = lambda c, u, flags, reason, props: connected.put(reason)
    pub.connect(host, port)
    pub.loop_start()
    assert not connected.get(timeout=10).is_failure
    infos = []
    for i in range(200):
        props = None
        if version == mqtt.MQTTv5:
            props = Properties(PacketTypes.PUBLISH)
            props.UserProperty = [("n", str(i)), ("n", "again")]
            props.ContentType = "text/plain"
            props.ResponseTopic = "answers"
            props.CorrelationData = b"%d" % i
        infos.append(pub.publish(topic + "/a", b"%06d" % i, qos=qos, properties=props))
    for info in infos:
        info.wait_for_publish(20)
        assert info.is_published()
    for i in range(200):
        m = received.get(timeout=10)
        assert m.payload == b"%06d" % i, (m.payload, i)
        if version == mqtt.MQTTv5:
            p = m.properties
            assert p.UserProperty == [("n", str(i)), ("n", "again")], p
            assert (p.ContentType, p.ResponseTopic, p.CorrelationData) == ("text/plain", "answers", b"%d" % i), p
    assert received.empty()
    for c in (sub, pub):
        c.disconnect()
        c.loop_stop()
    print("ok", "MQTT", version, "QoS", qos)


for version in (mqtt.MQTTv311, mqtt.MQTTv5):
    for qos in (0, 1, 2):
        run(version, qos)
