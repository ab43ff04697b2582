#!/bin/sh
# Lays out what a container image of one program holds, as `make image` does: the program without symbols, the shared
# objects that it is linked to at the paths where the loader looks for them, and certificate authorities.
#   layout.sh PROGRAM FOLDER
set -eu
program=$1 out=$2
install -D -m 755 -s "$program" "$out/bin/$(basename "$program")"
for object in $(ldd "$program" | grep -o '/[^ ]*'); do
  install -D -m 755 "$object" "$out$object"
done
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/ca-certificates.crt"
