# Made by: make docs. Changes belong into internal/settings.
#
# @summary A destination of a node: where a broker is, and how it is entered.
#
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
# * `compression`: How what is sent is compressed, where that makes it smaller: s2 halves network and the broker's disk or better and costs the node two to five times the CPU; zstd is for slow networks. Default: `none`.
# * `commit`: What lets the node forget: the receiver's confirmation, or, for streams that something else consumes, the broker's acknowledgement, which is a weaker promise. Default: `confirmed`.
# * `seal`: Whether the node signs what it sends there (seal_key), so that whoever knows its public key (logforward seal-key) can prove that nothing of it was changed or removed at the centre; it costs SHA-256 over all bytes, and a signature for each MiB and each time that a log's end is reached. Default: `no`.
type Mcollective_agent_logforward::Destination = Struct[{
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
  Optional['compression'] => Enum['none', 's2', 'zstd'],
  Optional['commit'] => Enum['confirmed', 'stored'],
  Optional['seal'] => Variant[Boolean, Enum['yes', 'no']],
}]
