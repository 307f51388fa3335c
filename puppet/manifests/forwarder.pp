# @summary Forwards one log, or each file of a glob
#
# The daemon notices the file within two seconds; nothing is restarted.
#
# @example
#   mcollective_agent_logforward::forwarder { 'nginx-access':
#     path => '/var/log/nginx/access.log',
#   }
#
# @param path The file, or a glob, which makes one log for each file that matches
# @param destination Name of one of the node's destinations; may be left out where there is only one
# @param start Where a file that was never seen begins: at its `end`, or its `beginning`
# @param rate Most bytes per second, such as `5MiB/s`; left out, the daemon's setting `rate` counts
# @param ensure Whether it is there
define mcollective_agent_logforward::forwarder (
  Mcollective_agent_logforward::Path        $path,
  Optional[Pattern[/\A[A-Za-z0-9_-]{1,64}\z/]] $destination = undef,
  Enum['end', 'beginning']                  $start       = 'end',
  Optional[Mcollective_agent_logforward::Rate] $rate     = undef,
  Enum['present', 'absent']                 $ensure      = 'present',
) {
  include mcollective_agent_logforward

  unless $title =~ Mcollective_agent_logforward::Log {
    fail("logforward: ${title} can't name a log that Puppet defines: letters, digits, dots, dashes and underscores may")
  }

  $definition = {
    'log'         => $title,
    'path'        => $path,
    'destination' => $destination,
    'start'       => $start,
    'rate'        => $rate,
  }.filter |$_key, $value| { $value =~ NotUndef }

  $_ensure = $mcollective_agent_logforward::ensure ? {
    'present' => $ensure,
    default   => 'absent',
  }

  file { "${mcollective_agent_logforward::definitions}/${title}.yaml":
    ensure  => $_ensure,
    owner   => $mcollective_agent_logforward::owner,
    group   => $mcollective_agent_logforward::group,
    mode    => '0644',
    content => template('mcollective_agent_logforward/definition.erb'),
  }
}
