"""Reads the log of the demo with kcat and finds each of its messages there.

Usage: demo_check.py BOOTSTRAP RUN HTTP-ANSWER PAHO-ANSWERS

HTTP-ANSWER is what `curl -i` printed, PAHO-ANSWERS the JSON of paho_publish.py. Prints a line per message; ends with 1
when one is missing, or is not where its receipt says.
"""
import json
import subprocess
import sys

bootstrap, run, http_answer, paho_answers = sys.argv[1:]
TOPIC = "telemetry"


def kcat(*arguments):
    """Records as kcat's JSON, from the place that the arguments name to the end or for a number of records."""
    command = ["kcat", "-b", bootstrap, "-t", TOPIC, "-C", "-q", "-J", *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    return command, [json.loads(line) for line in lines]


def header(record, name):
    pairs = record["headers"]
    return next((pairs[at + 1] for at in range(0, len(pairs), 2) if pairs[at] == name), None)


def at_its_place(receipt, payload):
    """Whether the record at the receipt's place has this payload and the receipt's id."""
    partition, offset = str(receipt["partition"]), str(receipt["offset"])
    command, records = kcat("-p", partition, "-o", offset, "-c", "1", "-e")
    print(f"receipt {TOPIC}/{partition}@{offset} id {receipt['id']}")
    print("  $", " ".join(command))
    found = [record for record in records if record["offset"] == int(offset)]
    for record in found:
        print("  ", record["key"], record["payload"], "ce_id", header(record, "ce_id"))
    good = len(found) == 1 and found[0]["payload"] == payload and header(found[0], "ce_id") == receipt["id"]
    if not good:
        print(f"  NOT FOUND: expected {payload}")
    return good and receipt["topic"] == TOPIC


body = open(http_answer).read().replace("\r\n", "\n").split("\n\n", 1)[1]
found = [at_its_place(json.loads(body), f'{{"run":"{run}","over":"http"}}')]
acknowledged = json.load(open(paho_answers))["acknowledged"]
for answer in sorted(acknowledged, key=lambda answer: answer["number"]):
    found.append(at_its_place(answer["receipt"], f"{run}:0:{answer['number']} "))

print("mosquitto_pub shows no receipt: its message is looked for in the whole topic")
command, records = kcat("-o", "beginning", "-e")
print("  $", " ".join(command))
text = f'{{"run":"{run}","over":"mqtt"}}'
copies = [record for record in records if record["payload"] == text]
for record in copies:
    print("  ", record["key"], record["payload"], f"{TOPIC}/{record['partition']}@{record['offset']}")
found.append(len(copies) == 1)
if len(copies) != 1:
    print(f"  NOT FOUND, or not once: {text}")
sys.exit(0 if len(found) == 5 and all(found) else 1)
