#!/bin/sh
# Starts the version that this machine runs; the packaged one before there is any.
for bin in /opt/cis490/current/cis490 /usr/lib/cis490/cis490; do
  if [ -x "$bin" ]; then exec "$bin" "$@"; fi
done
echo "cis490: /usr/lib/cis490/cis490 is missing: install the package again" >&2
exit 69
