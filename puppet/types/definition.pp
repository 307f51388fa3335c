# @summary What one forwarder forwards
#
# * `path`: The file, or a glob, which makes one log for each file that matches.
# * `destination`: Name of one of the node's destinations; may be left out where there is only one.
# * `start`: Where a file that was never seen begins: at its `end` (the default), or its `beginning`.
# * `rate`: Most bytes per second, such as `5MiB/s`; left out, the daemon's setting `rate` counts.
# * `ensure`: `absent` takes it away.
type Mcollective_agent_logforward::Definition = Struct[{
  'path'                  => Mcollective_agent_logforward::Path,
  Optional['destination'] => Pattern[/\A[A-Za-z0-9_-]{1,64}\z/],
  Optional['start']       => Enum['end', 'beginning'],
  Optional['rate']        => Mcollective_agent_logforward::Rate,
  Optional['ensure']      => Enum['present', 'absent'],
}]
