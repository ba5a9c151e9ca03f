#!/bin/sh
# The services run from /opt/cis490 and stay: data may wait to be shipped.
case $1 in
  remove|0)
    if [ -e /opt/cis490/current ]; then
      echo "cis490: services and data stay; to remove them: sudo /opt/cis490/current/cis490 uninstall"
    fi ;;
esac
