#!/bin/sh
# Users and folders; a role is a person's or a tool's decision.
set -e
if command -v systemd-sysusers >/dev/null; then systemd-sysusers cis490.conf; fi
if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create cis490.conf || true; fi
if [ -e /opt/cis490/current ]; then
  echo "cis490: this machine runs $(readlink /opt/cis490/current); to use the packaged version:"
  echo "  sudo /usr/lib/cis490/cis490 install ROLE   # lab-host or receiver"
else
  echo "cis490: next, make this machine a lab host or the receiver:"
  echo "  sudo cis490 install lab-host --receiver https://NAME:8443"
  echo "  sudo cis490 install receiver --public-url https://NAME:8443"
fi
