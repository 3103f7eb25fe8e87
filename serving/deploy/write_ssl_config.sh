#!/bin/sh
# Prints an ssl_config of TensorFlow Serving, which holds certificates, not their paths. usage: write_ssl_config.sh KEY CERTIFICATE CLIENT_ROOTS
set -eu
quoted() { awk '{ printf "%s\\n", $0 }' "$1"; }
umask 077
cat <<END
server_key: "$(quoted "$1")"
server_cert: "$(quoted "$2")"
custom_ca: "$(quoted "$3")"
client_verify: true
END
