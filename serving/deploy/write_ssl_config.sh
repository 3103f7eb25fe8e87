#!/bin/sh
# TensorFlow Serving wants certificates inside its ssl_config, not beside it. usage: write_ssl_config.sh KEY CERTIFICATE CLIENT_ROOTS
set -eu
quoted() { awk '{ printf "%s\\n", $0 }' "$1"; }
umask 077
cat <<END
server_key: "$(quoted "$1")"
server_cert: "$(quoted "$2")"
custom_ca: "$(quoted "$3")"
client_verify: true
END
