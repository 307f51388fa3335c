# Made by: make docs. Changes belong into internal/settings.
#
# @summary Settings of a receiver, as in /etc/logforward/receive.cfg.
#
# * `log_level`: What is logged to standard error, and anything worse. Default: `info`.
# * `log_format`: How it is logged. Default: `text`.
# * `metrics_listen`: Address (host:port) that serves /metrics and /healthz over HTTP; empty: none. Forwarders serve both on their socket as well.
# * `receiver`: This receiver's name, unique among receivers and kept for good; empty: the host's name.
# * `output`: Directory of the central files. Default: `/var/log/logforward`.
# * `state`: Directory of the receiver's own state; one process at a time uses it. Default: `/var/lib/logforward/receive`.
# * `file_pattern`: Names of central files below the output, with strftime conversions (UTC); a new name begins a new file. Default: `{identity}/{log}.log`.
# * `file_mode`: Mode of central files. Default: `0640`.
# * `dir_mode`: Mode of central directories. Default: `0750`.
# * `rotate_size`: Bytes from which a central file is closed at the next line's end; 0: no limit. Default: `1GiB`.
# * `rotate_every`: Period, counted in UTC, after which a central file is closed; 0: never. Default: `24h`.
# * `retain_count`: Closed files that are kept of each log; 0: all. Default: `0`.
# * `retain_age`: How long a closed file is kept; 0: for ever. Default: `0s`.
# * `retain_size`: Bytes of all closed files of this receiver that are kept; 0: no limit. Default: `0`.
# * `compress`: How closed files are compressed. Default: `zstd`.
# * `commit_interval`: Longest time between an arrival and its fsync and confirmation. Default: `1s`.
# * `commit_bytes`: Bytes that begin a commit before its time. Default: `64MiB`.
# * `lease_interval`: How often a receiver says that it lives; the same for all receivers. Default: `1s`.
# * `lease_timeout`: How long a receiver may say nothing until the others take its partitions over. Default: `5s`.
# * `disk_timeout`: How long an operation on the receiver's disk may take until its heart stands still, so that others take its partitions over. Default: `30s`.
# * `max_open_files`: Central files that are open at once; 0: half of what the process may have. Default: `0`.
# * `max_logs_per_identity`: Logs that one identity may have; messages of more go into quarantine. Default: `10000`.
# * `quarantine_size`: Bytes of messages that can't be used which are kept; more are only counted and reported. Default: `1GiB`.
# * `fetch_bytes`: Bytes that each partition fetches ahead, but always room for two messages. Default: `8MiB`.
# * `url`: URLs of the broker or of one cluster's brokers: nats://, tls://, ws:// or wss://.
# * `choria`: Choria's configuration file (/etc/choria/server.conf on a node): its brokers, identity and credentials are used; url, ca and certificate stand above it.
# * `choria_token`: File with a Choria JWT, in place of the one that the Choria configuration names.
# * `choria_seed`: File with the ed25519 seed of that JWT.
# * `user`: User name.
# * `password`: The user's password.
# * `token`: Token.
# * `nkey`: File with an nkey seed.
# * `credentials`: File with a user's JWT and nkey seed (.creds).
# * `ca`: PEM file with the authorities that the broker's certificate must come from; empty: the system's.
# * `certificate`: PEM file with this side's certificate, for mutual TLS.
# * `key`: PEM file with its key.
# * `server_name`: Name that the broker's certificate must have; empty: the URL's host.
# * `prefix`: Prefix of subjects. Default: `logs`.
type Mcollective_agent_logforward::Receive_settings = Struct[{
  Optional['log_level'] => Enum['debug', 'info', 'warn', 'error'],
  Optional['log_format'] => Enum['text', 'json'],
  Optional['metrics_listen'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['receiver'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['output'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['state'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['file_pattern'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['file_mode'] => Pattern[/\A0?[0-7]{3}\z/],
  Optional['dir_mode'] => Pattern[/\A0?[0-7]{3}\z/],
  Optional['rotate_size'] => Variant[Integer[0], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['rotate_every'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['retain_count'] => Integer[0],
  Optional['retain_age'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['retain_size'] => Variant[Integer[0], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['compress'] => Enum['none', 'gzip', 'zstd'],
  Optional['commit_interval'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['commit_bytes'] => Variant[Integer[1024, 1073741824], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['lease_interval'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['lease_timeout'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['disk_timeout'] => Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]],
  Optional['max_open_files'] => Integer[0, 1048576],
  Optional['max_logs_per_identity'] => Integer[1],
  Optional['quarantine_size'] => Variant[Integer[0], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['fetch_bytes'] => Variant[Integer[2097152, 1073741824], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
  Optional['url'] => Variant[Variant[Pattern[/\A[^\r\n\0]*\z/], Array[Pattern[/\A[^\r\n\0]*\z/]]], Sensitive[Variant[Pattern[/\A[^\r\n\0]*\z/], Array[Pattern[/\A[^\r\n\0]*\z/]]]]],
  Optional['choria'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['choria_token'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['choria_seed'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['user'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['password'] => Variant[Pattern[/\A[^\r\n\0]*\z/], Sensitive[Pattern[/\A[^\r\n\0]*\z/]]],
  Optional['token'] => Variant[Pattern[/\A[^\r\n\0]*\z/], Sensitive[Pattern[/\A[^\r\n\0]*\z/]]],
  Optional['nkey'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['credentials'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['ca'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['certificate'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['key'] => Pattern[/\A(\/[^\r\n\0]*)?\z/],
  Optional['server_name'] => Pattern[/\A[^\r\n\0]*\z/],
  Optional['prefix'] => Pattern[/\A[^\r\n\0]*\z/],
}]
