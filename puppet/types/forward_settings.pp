# Made by: make docs. Changes belong into internal/settings.
#
# @summary Settings of the node's daemon, as in /etc/choria/plugin.d/logforward.cfg without its destinations.
#
# * `log_level`: What is logged to standard error, and anything worse. Default: `info`.
# * `log_format`: How it is logged. Default: `text`.
# * `metrics_listen`: Address (host:port) that serves /metrics and /healthz over HTTP; empty: none. Forwarders serve both on their socket as well.
# * `identity`: The node's name in subjects and central paths; empty: the host's fully qualified name.
# * `state`: Directory of checkpoints; one process at a time uses it. Default: `/var/lib/logforward/forward`.
# * `seal_key`: File with the seed of the Ed25519 key (64 hex digits) by which this node seals what it sends to destinations that say so; Choria's server.seed is one. It is made where there is none (but no server.seed: that is Choria's); only its owner may have access to it. Empty: seal.key in the state directory.
# * `socket`: Unix socket that the node is steered by. Default: `/run/logforward/forward.sock`.
# * `wishes`: Directory of what operators asked for by Choria while the daemon wasn't running; the daemon takes it when it runs. Default: `/var/lib/logforward/wishes`.
# * `policy`: Rego document that decides who may change what, the one that Choria Server has for the agent. Without it nothing can be changed; forwarding goes on. peers: who may write to the socket may change everything. Default: `/etc/choria/policies/rego/logforward.rego`.
# * `audit_log`: File with a line for each decision about a change, and for each refusal; it is on disk before the change takes effect. Empty: none is kept. Default: `/var/log/logforward/audit.log`.
# * `audit_rotate_size`: Bytes from which the audit log begins a new file. Default: `16MiB`.
# * `audit_retain_count`: Older files of the audit log that are kept; while its destination hasn't confirmed them, up to ten times as many. Default: `10`.
# * `audit_destination`: Name of the destination that the audit log is forwarded to, as the log audit.logforward; empty: it stays here. A pause of all doesn't hold it, and operators change it only by a rule of the policy that is about this log.
# * `enforce`: What policy decides on: changes, or also what runs: then what operators started or redirected ends when policy doesn't let them any more, and starts go on when it does again. Default: `changes`.
# * `forwarders`: Directory of forwarder definitions (*.yaml); changes take effect within two seconds. Default: `/etc/choria/logforward/forwarders.d`.
# * `staged`: Directory of a set that waits: logforward.cfg, forwarders.d and logforward.rego, or some of them. logforward plan tells what it would do, and puts it into force with --apply. Default: `/etc/choria/logforward/staged`.
# * `former`: Directory of the set that was in force before the last one was applied; logforward rollback puts it back. Default: `/etc/choria/logforward/former`.
# * `allowed_paths`: Which real paths, symlinks resolved, may ever be forwarded; ** crosses directories. Default: `/var/log/**`.
# * `logrotate`: Configuration of logrotate, which is read for the directories that it moves rotated files into (olddir); empty: none. Files are opened there only below allowed_paths. Default: `/etc/logrotate.conf`.
# * `rate`: Most bytes per second of each log that names no rate of its own; 0: no limit. It delays, and drops nothing. Default: `0`.
# * `node_rate`: Most bytes per second of all logs together; 0: no limit. Default: `0`.
# * `window`: Most bytes that are under way to one destination without the broker's acknowledgement. Less is used where the broker is near: 4 MiB (or eight chunks), and 2 MiB more for each 10 ms that it took to answer when the node connected. Default: `16MiB`.
# * `chunk_size`: Most bytes in one message; the broker's maximum payload bounds it, too. Default: `512KiB`.
# * `linger`: How long a busy log's lines are collected before they are sent; a quiet log's go at once. Default: `2.8ms`.
# * `partial_wait`: How long the rest of an unfinished line is waited for before its beginning is sent. Default: `250ms`.
# * `checkpoint_interval`: How often confirmed positions are written to the state. Default: `1s`.
# * `held_deleted`: Most unread bytes in deleted files that are held open; beyond it the oldest is let go, with a gap. Default: `1GiB`.
# * `quiet`: How long a rotated file must have been quiet before the next is begun. Default: `500ms`.
# * `late_writes`: How long a rotated file is still watched for late writes. Default: `1h`.
# * `poll`: How often files are looked at where inotify says nothing (network file systems). Default: `1s`.
# * `sync_interval`: How often a node compares its positions with the centre's. Default: `30s`.
type Mcollective_agent_logforward::Forward_settings = Struct[{
  Optional['log_level'] => Enum['debug', 'info', 'warn', 'error'],
  Optional['log_format'] => Enum['text', 'json'],
  Optional['metrics_listen'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['identity'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['state'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['seal_key'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['socket'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['wishes'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['policy'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['audit_log'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['audit_rotate_size'] => Variant[Integer[65536, 1073741824], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['audit_retain_count'] => Integer[1, 1000],
  Optional['audit_destination'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['enforce'] => Enum['changes', 'running'],
  Optional['forwarders'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['staged'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['former'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['allowed_paths'] => Variant[Pattern[/\A[^\r\n\0]*\z/], Array[Pattern[/\A[^\r\n\0]*\z/]]],
  Optional['logrotate'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['rate'] => Variant[Integer[0], Enum['unlimited'], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?(\/s)?\z/]],
  Optional['node_rate'] => Variant[Integer[0], Enum['unlimited'], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?(\/s)?\z/]],
  Optional['window'] => Variant[Integer[65536, 1073741824], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['chunk_size'] => Variant[Integer[4096, 8388608], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['linger'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['partial_wait'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['checkpoint_interval'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['held_deleted'] => Variant[Integer[0], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['quiet'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['late_writes'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['poll'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['sync_interval'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
}]
