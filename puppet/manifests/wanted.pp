# @summary Whoever includes this wants the package
#
# @api private
class mcollective_agent_logforward::wanted {
  include mcollective_agent_logforward::install

  # An override, for it holds whoever was declared first.
  if $mcollective_agent_logforward::install::manage {
    Package <| title == 'logforward' |> {
      ensure => $mcollective_agent_logforward::install::ensure,
    }
  }
}
