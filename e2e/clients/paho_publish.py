"""Publishes COUNT messages with paho and prints, as JSON, what the server answered. The session is kept, and a lost
connection is made anew.

Usage: paho_publish.py HOST PORT 311|5 TOPIC PREFIX COUNT [QOS]
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, version, topic, prefix, count = sys.argv[1:7]
qos = int(sys.argv[7]) if len(sys.argv) > 7 else 1
count = int(count)
five = version == "5"
answers = {"connects": 0}
acknowledged = []
numbers = {}
# Packet identifiers are few: what waits for an answer must not take them all.
room = threading.Semaphore(1000)
connected, finished, known = threading.Event(), threading.Event(), threading.Condition()


def on_connect(client, userdata, flags, reason_code, properties):
    answers["connects"] += 1
    answers["connack"] = str(reason_code)
    answers["session_present"] = flags.session_present
    connected.set()


def on_publish(client, userdata, mid, reason_code, properties):
    receipt = dict(getattr(properties, "UserProperty", [])) if five else {}
    with known:
        # The answer may come before publish() has returned the identifier.
        known.wait_for(lambda: mid in numbers)
        number = numbers.pop(mid)
    room.release()
    acknowledged.append({"number": number, "reason": str(reason_code), "receipt": receipt})
    if len(acknowledged) == count:
        finished.set()


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id="paho-" + prefix,
    protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
    clean_session=None if five else False,
)
client.on_connect, client.on_publish = on_connect, on_publish
client.max_inflight_messages_set(50)
client.reconnect_delay_set(1, 1)
if five:
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    client.connect(host, int(port), clean_start=False, properties=session)
else:
    client.connect(host, int(port))
client.loop_start()
if not connected.wait(30):
    sys.exit("no CONNACK within 30 s")
for number in range(count):
    room.acquire()
    message = client.publish(topic, f"{prefix}:0:{number} ", qos=qos)
    with known:
        numbers[message.mid] = number
        known.notify()
if not finished.wait(600):
    sys.exit(f"{len(acknowledged)} of {count} acknowledged within 600 s")
client.disconnect()
client.loop_stop()
answers["acknowledged"] = acknowledged
print(json.dumps(answers))
