# Made by: make docs. Changes belong into internal/settings.
#
# @summary What streams are like: settings of logforward setup, which connects as the receiver does.
#
# * `partitions`: Partitions that identities are spread over; the most receivers that can share the work. Default: `4`.
# * `replicas`: Copies of each stream in a NATS cluster. Default: `1`.
# * `max_bytes`: Most bytes in each partition's stream; 0: no limit. A full stream refuses more, and loses nothing. Default: `0`.
type Mcollective_agent_logforward::Setup_settings = Struct[{
  Optional['partitions'] => Integer[1, 1024],
  Optional['replicas'] => Integer[1, 5],
  Optional['max_bytes'] => Variant[Integer[0], Pattern[/\A\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?\z/]],
}]
