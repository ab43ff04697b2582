#!/usr/bin/env bash
# Shows a pipeline at work with the embedded broker of dev mode, and checks what it shows: every message that was
# acknowledged is read back from the place that its receipt names. Ends with 0 only if all are there.
#   demo.sh            the demo
#   demo.sh --serve    only serves, until Ctrl-C
# Ports and data folder:
#   PENSTOCK_DEMO_MQTT_PORT, _HTTP_PORT, _ADMIN_PORT, _KAFKA_PORT (1883, 8080, 9464, any), PENSTOCK_DEMO_DATA
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}
sidecar=${PENSTOCK_SIDECAR_BIN:-${CARGO_TARGET_DIR:-$cache/target}/debug/penstock-sidecar}
mqtt=${PENSTOCK_DEMO_MQTT_PORT:-1883}
http=${PENSTOCK_DEMO_HTTP_PORT:-8080}
admin=127.0.0.1:${PENSTOCK_DEMO_ADMIN_PORT:-9464}
data=${PENSTOCK_DEMO_DATA:-$cache/demo}
. "$here/parts/versions.env"
python=$cache/parts/clients-$CLIENTS/venv/bin/python

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
fail() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

folder=$(mktemp -d)
served=
cleanup() {
  if [ -n "$served" ]; then kill -KILL "$served" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT

# The quickstart, on the ports that were asked for.
manifest=$here/../docs/examples/quickstart.yaml
if [ "$mqtt" != 1883 ] || [ "$http" != 8080 ]; then
  sed -e "s/port: 1883/port: $mqtt/" -e "s/port: 8080/port: $http/" "$manifest" >"$folder/quickstart.yaml"
  manifest=$folder/quickstart.yaml
fi
serve=("$sidecar" dev -f "$manifest" --data "$data" --admin "$admin" --log-format text
  --kafka-port "${PENSTOCK_DEMO_KAFKA_PORT:-0}")
if [ "${1:-}" = --serve ]; then
  status=0
  "${serve[@]}" || status=$?
  exit "$status"
fi

say "Serving docs/examples/quickstart.yaml with the embedded broker; data in $data"
"${serve[@]}" >"$folder/panel" 2>"$folder/log" &
served=$!
tries=0
until curl -fsS "http://$admin/readyz" >/dev/null 2>&1; do
  if ! kill -0 "$served" 2>/dev/null; then
    served=
    cat "$folder/log" >&2
    fail "the sidecar did not start. If a port is in use: PENSTOCK_DEMO_MQTT_PORT=11883 PENSTOCK_DEMO_HTTP_PORT=18080 PENSTOCK_DEMO_ADMIN_PORT=19464 make demo"
  fi
  tries=$((tries + 1))
  if [ "$tries" -gt 300 ]; then cat "$folder/log" >&2; fail "the sidecar was not ready within 60 s"; fi
  sleep 0.2
done
# Another program may answer on that port.
kill -0 "$served" 2>/dev/null || { served=; cat "$folder/log" >&2; fail "the sidecar did not start"; }
cat "$folder/panel"
kafka=$(sed -n 's/^Kafka clients *//p' "$folder/panel")

# Each run has its own texts, for the log keeps those of earlier runs.
run=$(date +%s)-$$

say "A message over HTTP: the answer is its receipt"
printf '$ curl -i --json ... http://127.0.0.1:%s/v1/demo/meter-1/telemetry\n' "$http"
curl -sS -i --max-time 30 --json "{\"run\":\"$run\",\"over\":\"http\"}" \
  "http://127.0.0.1:$http/v1/demo/meter-1/telemetry" | tee "$folder/http"
printf '\n'

say "The same over MQTT: PUBACK comes after the message was stored"
printf '$ mosquitto_pub -d -V mqttv5 -q 1 -p %s -t v1/demo/meter-2/telemetry -m ...\n' "$mqtt"
timeout 30 mosquitto_pub -d -V mqttv5 -q 1 -h 127.0.0.1 -p "$mqtt" -t v1/demo/meter-2/telemetry \
  -m "{\"run\":\"$run\",\"over\":\"mqtt\"}" | tee "$folder/mosquitto"
grep -q 'received PUBACK (Mid: 1, RC:0)' "$folder/mosquitto" || fail "mosquitto_pub got no PUBACK"

say "Three more with an MQTT 5 client that shows what PUBACK carries: the receipts"
"$python" "$here/clients/paho_publish.py" 127.0.0.1 "$mqtt" 5 v1/demo/meter-3/telemetry "$run" 3 >"$folder/paho"
"$python" -c 'import json, sys; [print("PUBACK", answer["number"], answer["receipt"]) for answer in json.load(sys.stdin)["acknowledged"]]' \
  <"$folder/paho"

say "What the receipts say, and what is in the log there"
status=0
"$python" "$here/clients/demo_check.py" "$kafka" "$run" "$folder/http" "$folder/paho" || status=$?
[ "$status" = 0 ] || fail "not every acknowledged message is where its receipt says"

say "The ledger: received = acknowledged + refused + dead-lettered + abandoned + dropped + in flight"
printf '$ curl http://%s/ledger\n' "$admin"
curl -sS --max-time 30 "http://$admin/ledger" | "$python" -m json.tool | tee "$folder/ledger"
"$python" - "$folder/ledger" <<'CHECK' || fail "the ledger does not say that 5 messages came and 5 were acknowledged"
import json, sys
total = json.load(open(sys.argv[1]))["total"]
sys.exit(not (total["received"] == total["acknowledged"] == 5 and total["inFlight"] == 0))
CHECK

say "Stopping"
kill -INT "$served"
status=0
wait "$served" || status=$?
served=
[ "$status" = 0 ] || { cat "$folder/log" >&2; fail "the sidecar ended with $status"; }
printf '5 messages sent, 5 acknowledged, 5 found in the log. They stay in %s; "make dev" serves on.\n' "$data"
