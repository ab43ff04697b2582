"""Publishes COUNT messages at QoS 1 with paho and prints, as JSON, what the server answered.

Usage: paho_publish.py HOST PORT 311|5 TOPIC PREFIX COUNT
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt

host, port, version, topic, prefix, count = sys.argv[1:]
count = int(count)
five = version == "5"
answers = {}
acknowledged = []
connected, finished = threading.Event(), threading.Event()


def on_connect(client, userdata, flags, reason_code, properties):
    answers["connack"] = str(reason_code)
    answers["session_present"] = flags.session_present
    if five:
        answers["connack_properties"] = {
            name: getattr(properties, name)
            for name in ("MaximumQoS", "ReceiveMaximum", "SessionExpiryInterval", "AssignedClientIdentifier")
            if hasattr(properties, name)
        }
    connected.set()


def on_publish(client, userdata, mid, reason_code, properties):
    receipt = dict(getattr(properties, "UserProperty", [])) if five else {}
    acknowledged.append({"mid": mid, "reason": str(reason_code), "receipt": receipt})
    if len(acknowledged) == count:
        finished.set()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id="paho-" + prefix,
    protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
)
client.on_connect, client.on_publish = on_connect, on_publish
client.max_inflight_messages_set(50)
client.connect(host, int(port))
client.loop_start()
if not connected.wait(30):
    sys.exit("no CONNACK within 30 s")
for number in range(count):
    client.publish(topic, f"{prefix}-{number}", qos=1)
if not finished.wait(60):
    sys.exit(f"{len(acknowledged)} of {count} acknowledged within 60 s")
client.disconnect()
client.loop_stop()
answers["acknowledged"] = acknowledged
print(json.dumps(answers))
