"""Publishes COUNT messages with paho and prints, as JSON, what the server answered. The session is kept, and a lost
connection is made anew.

Usage: paho_publish.py HOST PORT 311|5 TOPIC PREFIX COUNT [QOS] [--ca FILE] [--web-socket PATH]
Environment: PAHO_USER and PAHO_PASSWORD, if it shall log in.
"""
import argparse
import json
import os
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

parser = argparse.ArgumentParser()
for name in ("host", "port", "version", "topic", "prefix", "count"):
    parser.add_argument(name)
parser.add_argument("qos", nargs="?", type=int, default=1)
parser.add_argument("--ca")
parser.add_argument("--web-socket")
arguments = parser.parse_args()
host, port, version, topic, prefix = (
    arguments.host, arguments.port, arguments.version, arguments.topic, arguments.prefix
)
count, qos = int(arguments.count), arguments.qos
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
    transport="websockets" if arguments.web_socket else "tcp",
)
if arguments.web_socket:
    client.ws_set_options(path=arguments.web_socket)
if arguments.ca:
    client.tls_set(ca_certs=arguments.ca)
client.on_connect, client.on_publish = on_connect, on_publish
if "PAHO_USER" in os.environ:
    client.username_pw_set(os.environ["PAHO_USER"], os.environ["PAHO_PASSWORD"])
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
