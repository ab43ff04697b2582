#!/usr/bin/env bash
# Builds or fetches the real parts that the tests start, each into its own folder of the cache, named by version:
#   ${PENSTOCK_CACHE:-$HOME/.cache/penstock}/parts/NAME-VERSION/
# A folder that is there is whole (it is renamed into place at the end), so a second run takes a moment.
#   build.sh [debian] [kafka] [clients] [paho-java] [mqttjs] [etcd] [kubernetes] [node] [containerd] [helm] [coredns] [metrics-server] [cargo-deny]
# The default is all of them but the last.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
cache=${PENSTOCK_CACHE:-$HOME/.cache/penstock}
parts=$cache/parts
log=$cache/parts/log
mkdir -p "$parts" "$log"

say() { printf 'parts: %s\n' "$*"; }

# step NAME COMMAND...: runs quietly, says every 20 seconds that it still does, and shows its output when it fails.
step() {
  local name=$1 started=$SECONDS beat
  shift
  say "$name ..."
  ( while sleep 20 >/dev/null 2>&1 9>&-; do say "$name: $((SECONDS - started)) s so far"; done ) 9>&- &
  beat=$!
  if ! "$@" >"$log/$name.log" 2>&1; then
    kill "$beat" 2>/dev/null || true
    say "$name failed; the end of $log/$name.log:"
    tail -n 40 "$log/$name.log"
    exit 1
  fi
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  say "$name done in $((SECONDS - started)) s"
}

# part NAME VERSION FUNCTION: builds into a folder of its own unless the part is there, one process at a time.
part() {
  local name=$1 version=$2 target=$parts/$1-$2
  if [ -d "$target" ]; then say "$name $version is there"; return; fi
  exec 9>"$parts/.$name.lock"
  flock 9
  if [ -d "$target" ]; then say "$name $version is there"; exec 9>&-; return; fi
  local build
  build=$(mktemp -d "$parts/.$name.XXXXXX")
  step "$name" "$3" "$build"
  mv "$build" "$target"
  exec 9>&-
}

go_build() { # MODULE-FOLDER OUTPUT-FOLDER LDFLAGS-ADDITIONS [GO-FLAG...] PACKAGE...
  local folder=$1 out=$2 flags=$3
  shift 3
  (cd "$here/$folder" && CGO_ENABLED=0 go build -mod=readonly -trimpath -p 2 -ldflags "-s -w $flags" -o "$out/" "$@")
}

pinned() { # FILE TEXT: the version in versions.env is the one that FILE pins
  grep -qF -- "$2" "$here/$1" || { say "$1 does not pin $2: change versions.env and $1 together"; return 1; }
}

build_etcd() {
  pinned etcd/go.mod "go.etcd.io/etcd/server/v3 $ETCD" || return 1
  go_build etcd "$1" "" .
}

# The API alone is a part of its own, so that tests that need no node wait for less.
build_kubernetes() { kubernetes_programs "$1" kube-apiserver kubectl; }
build_node() { kubernetes_programs "$1" kube-controller-manager kube-scheduler kubelet kube-proxy; }

kubernetes_programs() { # OUTPUT-FOLDER PROGRAM...
  local v=k8s.io/component-base/version
  local major=${KUBERNETES#v}
  local minor=${major#*.} out=$1
  shift
  pinned kubernetes/go.mod "k8s.io/kubernetes $KUBERNETES" || return 1
  go_build kubernetes "$out" \
    "-X $v.gitVersion=$KUBERNETES -X $v.gitMajor=${major%%.*} -X $v.gitMinor=${minor%%.*} -X $v.gitTreeState=clean" \
    "${@/#/k8s.io/kubernetes/cmd/}"
}

build_containerd() {
  local module=github.com/containerd/containerd/v2
  pinned containerd/go.mod "$module $CONTAINERD" || return 1
  go_build containerd "$1" "-X $module/version.Version=$CONTAINERD" -tags "no_btrfs no_devmapper no_zfs" \
    $module/cmd/containerd $module/cmd/containerd-shim-runc-v2 $module/cmd/ctr
}

build_helm() {
  local module=helm.sh/helm/v3
  pinned kubernetes/go.mod "$module $HELM" || return 1
  go_build kubernetes "$1" "-X $module/internal/version.version=$HELM" $module/cmd/helm
}

build_coredns() {
  pinned kubernetes/go.mod "github.com/coredns/coredns $COREDNS" || return 1
  go_build kubernetes "$1" "" github.com/coredns/coredns
}

build_metrics_server() {
  pinned kubernetes/go.mod "sigs.k8s.io/metrics-server $METRICS_SERVER" || return 1
  go_build kubernetes "$1" "" sigs.k8s.io/metrics-server/cmd/metrics-server
}

build_kafka() {
  pinned kafka/pom.xml "<artifactId>kafka_2.13</artifactId><version>$KAFKA</version>" || return 1
  mvn -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1/libs"
}

build_clients() {
  pinned clients/requirements.txt "paho-mqtt==$CLIENTS" || return 1
  python3 -m venv "$1/venv" || return 1
  "$1/venv/bin/pip" install --disable-pip-version-check -r "$here/clients/requirements.txt"
}

build_paho_java() {
  pinned paho-java/pom.xml "<artifactId>org.eclipse.paho.mqttv5.client</artifactId><version>$PAHO_JAVA</version>" || return 1
  mvn -B -f "$here/paho-java/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1/libs"
}

build_mqttjs() {
  pinned mqttjs/package.json "\"mqtt\": \"$MQTTJS\"" || return 1
  cp "$here/mqttjs/package.json" "$here/mqttjs/package-lock.json" "$1" || return 1
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund)
}

build_cargo_deny() {
  cargo install --locked cargo-deny --version "$CARGO_DENY" --root "$1" --target-dir "$1/target" || return 1
  rm -rf "$1/target"
}

# Debian starts some services when it installs them; ours run on free ports with folders of their own.
install_debian() {
  local wanted=() package probe
  while read -r package probe; do
    case $package in ''|'#'*) continue ;; esac
    case $probe in
      /*) [ -e "$probe" ] || wanted+=("$package") ;;
      python:*) python3 -c "import ${probe#python:}" 2>/dev/null || wanted+=("$package") ;;
      *) command -v "$probe" >/dev/null || wanted+=("$package") ;;
    esac
  done <"$here/debian.txt"
  if [ ${#wanted[@]} -eq 0 ]; then say "Debian packages are there"; return; fi
  if [ "$(id -u)" -ne 0 ]; then
    say "these Debian packages are missing, install them as root: ${wanted[*]}"
    exit 1
  fi
  say "installing Debian packages: ${wanted[*]}"
  step apt-update apt-get update -q
  step apt-install env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${wanted[@]}"
  for service in mosquitto redis-server; do
    case " ${wanted[*]} " in
      *" $service "*) service "$service" stop >/dev/null 2>&1 || true ;;
    esac
  done
}

[ $# -gt 0 ] || set -- debian kafka clients paho-java mqttjs etcd kubernetes node containerd helm coredns metrics-server
for name in "$@"; do
  case $name in
    debian) install_debian ;;
    etcd) part etcd "$ETCD" build_etcd ;;
    kubernetes) part kubernetes "$KUBERNETES" build_kubernetes ;;
    node) part node "$KUBERNETES" build_node ;;
    containerd) part containerd "$CONTAINERD" build_containerd ;;
    helm) part helm "$HELM" build_helm ;;
    coredns) part coredns "$COREDNS" build_coredns ;;
    metrics-server) part metrics-server "$METRICS_SERVER" build_metrics_server ;;
    kafka) part kafka "$KAFKA" build_kafka ;;
    cargo-deny) part cargo-deny "$CARGO_DENY" build_cargo_deny ;;
    clients) part clients "$CLIENTS" build_clients ;;
    paho-java) part paho-java "$PAHO_JAVA" build_paho_java ;;
    mqttjs) part mqttjs "$MQTTJS" build_mqttjs ;;
    *) say "unknown part $name"; exit 2 ;;
  esac
done
