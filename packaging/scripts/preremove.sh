#!/bin/sh
# Before removing: the daemons end in order. An upgrade stops nothing.
# $1 is remove or upgrade from dpkg, and 0 (remove) or 1 (upgrade) from rpm.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now logforward-forward.service logforward-receive.service || true
fi
