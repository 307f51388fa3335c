#!/bin/sh
# Boots the machine's own systemd in namespaces of its own, on an overlay of the root file system whose changes are in
# memory only: nothing that it does is seen outside. Called by unshare, with an empty directory and the program.
set -e
x=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$x"
mkdir "$x/upper" "$x/work" "$x/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$x/upper,workdir=$x/work" "$x/root"
cd "$x/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in run tmp dev; do mount -t tmpfs tmpfs "$dir"; done
for device in null zero full random urandom; do : >"dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
mkdir -p etc/lf/forwarders.d usr/local/bin
cp "$2" usr/local/bin/logforward
cat >etc/lf/logforward.cfg <<END
identity = n1
state = /run/lf/state
audit_log = /run/lf/audit.log
policy = peers
wishes = /run/lf/wishes
socket = /run/lf/s.sock
forwarders = /etc/lf/forwarders.d
ensure_attempts = 2
ensure_steady = 5s
destination.central.url = nats://127.0.0.1:1
END
# Nothing of the machine's own units: what they do at a boot is none of a test's business.
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
printf '[Unit]\nDefaultDependencies=no\n' >etc/systemd/system/test.target
cat >etc/systemd/system/logforward-forward.service <<END
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/local/bin/logforward forward --config /etc/lf/logforward.cfg
Restart=on-failure
RestartSec=2s
RestartPreventExitStatus=78
StandardOutput=append:/run/lf.log
StandardError=append:/run/lf.log
END
exec chroot . env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=false
