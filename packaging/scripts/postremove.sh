#!/bin/sh
# After removing. Only dpkg's purge deletes what the daemons made: checkpoints, wishes, decisions. Logs that
# were received stay, and the receiver's state with them: they are nobody's configuration.
# $1 is remove, purge or upgrade from dpkg, and 0 (remove) or 1 (upgrade) from rpm.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		# Choria's machine may have started one again while the files were still there.
		systemctl stop logforward-forward.service logforward-receive.service || true
		systemctl daemon-reload
	fi
	;;
purge)
	# Links into what was the package's.
	for link in /etc/choria/machine/*; do
		case "$(readlink "$link")" in
		/usr/share/logforward/machine/*) rm -f "$link" ;;
		esac
	done
	rm -rf /var/lib/logforward/forward /var/lib/logforward/wishes /var/log/logforward /run/logforward /run/logforward-ensure /etc/choria/logforward
	kept=
	for dir in received receive broker; do
		dir=/var/lib/logforward/$dir
		rmdir "$dir" 2>/dev/null || [ ! -e "$dir" ] || kept="$kept $dir"
	done
	rmdir /var/lib/logforward 2>/dev/null || true
	[ -z "$kept" ] || echo "logforward: received logs, and what a receiver or a broker needs to go on, stay in$kept" >&2
	;;
esac
