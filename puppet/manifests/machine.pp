# @summary The autonomous agent that keeps the daemon running, and the check that Scout shows
#
# @api private
class mcollective_agent_logforward::machine {
  $ensure = $mcollective_agent_logforward::ensure

  # A link: the machine is of the program's version, always.
  if $mcollective_agent_logforward::machine {
    $link = $ensure ? {
      'present' => 'link',
      default   => 'absent',
    }
    file { "${mcollective_agent_logforward::machine_store}/logforward":
      ensure => $link,
      target => "${mcollective_agent_logforward::machine_source}/logforward",
      force  => true,
    }
  }

  if $mcollective_agent_logforward::scout_check {
    choria::scout_check { 'logforward_check':
      ensure         => $ensure,
      plugin         => $mcollective_agent_logforward::program,
      arguments      => 'check',
      plugin_timeout => '10s',
      check_interval => $mcollective_agent_logforward::scout_interval,
    }
  }
}
