#!/bin/sh
# After installing: users, directories, and the new program for daemons that run. Nothing is
# enabled or started that wasn't.
# $1 is configure from dpkg, and 1 (install) or 2 (upgrade) from rpm.
set -e

case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

user() { # name, what it is
	getent passwd "$1" >/dev/null || useradd --system --user-group --home-dir /var/lib/logforward --no-create-home --shell /usr/sbin/nologin --comment "$2" "$1"
}
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers logforward.conf
else
	user logforward "Log forwarder"
	user logforward-receive "Log receiver"
fi

directory() { # path, mode, owner
	[ -d "$1" ] || install -d -m "$2" -o "$3" -g "$3" "$1"
}
directory /var/lib/logforward 0755 root
directory /var/lib/logforward/forward 0700 logforward
directory /var/lib/logforward/wishes 0700 logforward
directory /var/lib/logforward/receive 0750 logforward-receive
directory /var/lib/logforward/received 0750 logforward-receive
directory /var/log/logforward 0750 logforward
directory /run/logforward 0755 logforward

# The receiver's settings may hold a password; its user reads them, and nobody else does.
[ ! -e /etc/logforward/receive.cfg ] || chgrp logforward-receive /etc/logforward/receive.cfg

# A daemon that runs ends in order and begins where it was: what isn't confirmed is sent again from its
# file, and what arrived twice is dropped.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# One that runs isn't ended for settings that the new program doesn't take: it goes on with the old program.
	restart=
	for daemon in receive forward; do
		if why=$(/usr/bin/logforward config --for $daemon 2>&1 >/dev/null); then
			restart="$restart logforward-$daemon.service"
		else
			echo "logforward: logforward-$daemon isn't restarted, for it wouldn't start: $why" >&2
		fi
	done
	[ -z "$restart" ] || systemctl try-restart $restart || true
fi
