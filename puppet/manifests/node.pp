# @summary What a node needs besides the agent: program, settings, definitions, policy, unit and machine
#
# @api private
class mcollective_agent_logforward::node {
  $ensure = $mcollective_agent_logforward::ensure
  $owner = $mcollective_agent_logforward::owner
  $group = $mcollective_agent_logforward::group
  $program = $mcollective_agent_logforward::program
  $agent = "${mcollective::libdir}/mcollective/agent/logforward"
  $staging = $mcollective_agent_logforward::staging and $ensure == 'present'

  # destination.<name>.<setting> = value
  $destinations = $mcollective_agent_logforward::destinations.reduce({}) |$all, $destination| {
    [$name, $fields] = $destination
    $fields.reduce($all) |$more, $field| {
      $more + { "destination.${name}.${field[0]}" => $field[1] }
    }
  }
  # Those by name stand above those by hash, as users of other agents expect of config.
  $client_config = $mcollective_agent_logforward::client ? {
    true    => $mcollective_agent_logforward::client_config,
    default => {},
  }
  $given = $mcollective_agent_logforward::config + $client_config + $mcollective_agent_logforward::server_config
  $values = $mcollective_agent_logforward::told + $mcollective_agent_logforward::settings + $destinations + $given
  $secret = mcollective_agent_logforward::secret($values)
  $wanted = $ensure == 'present' and $values.any |$key, $_value| { $key =~ /\Adestination\./ }

  include mcollective_agent_logforward::install
  if $ensure == 'present' {
    include mcollective_agent_logforward::wanted
    $directory = 'directory'
    $link = 'link'
    # Choria Server doesn't look a second time for the program of an agent whose description it has.
    Class['mcollective_agent_logforward::install'] -> File[$agent] -> Mcollective::Module_plugin['mcollective_agent_logforward']
  } else {
    $directory = 'absent'
    $link = 'absent'
  }

  file { $agent:
    ensure => $link,
    target => $program,
  }

  # Of a directory that isn't the package's only what Puppet laid there goes: it may be another's, too.
  if $ensure == 'present' or $mcollective_agent_logforward::config_dir == '/etc/choria/logforward' {
    $laid = $staging ? {
      true    => [$mcollective_agent_logforward::staged],
      default => [],
    }
    $directories = [$mcollective_agent_logforward::config_dir] + $laid
    file { $directories:
      ensure => $directory,
      owner  => $owner,
      group  => $group,
      mode   => '0755',
      force  => true,
    }
  } else {
    $directories = undef
  }
  if $ensure == 'present' or $mcollective_agent_logforward::purge_forwarders {
    file { $mcollective_agent_logforward::definitions:
      ensure  => $directory,
      owner   => $owner,
      group   => $group,
      mode    => '0755',
      recurse => $mcollective_agent_logforward::purge_forwarders,
      purge   => $mcollective_agent_logforward::purge_forwarders,
      force   => true,
    }
  }

  $mcollective_agent_logforward::forwarders.each |$log, $definition| {
    mcollective_agent_logforward::forwarder { $log:
      * => $definition,
    }
  }

  $text = mcollective_agent_logforward::settings($values)
  if $secret {
    $content = Sensitive($text)
    $mode = '0640'
  } else {
    $content = $text
    $mode = '0644'
  }
  # What the daemon would refuse never takes the place of what it runs with. Of what is said only the faults matter.
  $check = $ensure ? {
    'present' => "${program} config --for forward --config % > /dev/null",
    default   => undef,
  }
  file { $mcollective_agent_logforward::settings_file:
    ensure       => $ensure,
    owner        => $owner,
    group        => $group,
    mode         => $mode,
    content      => $content,
    validate_cmd => $check,
  }

  # What Puppet has laid ready and nobody applied is older than what Puppet now writes itself: an apply would bring it back.
  # What others staged stays.
  if $ensure == 'present' and !$staging {
    $left = $mcollective_agent_logforward::staged
    $quoted = "'${left.regsubst('\'', '\'\\\\\'\'', 'G')}'"
    exec { 'logforward staged by Puppet':
      command  => "cd ${quoted} && rm -rf logforward.cfg forwarders.d operators.yaml logforward.rego && rmdir --ignore-fail-on-non-empty ${quoted}",
      onlyif   => "grep -qs '^# Managed by Puppet' ${quoted}/logforward.cfg",
      path     => ['/usr/bin', '/bin'],
      provider => 'shell',
    }
  }

  contain mcollective_agent_logforward::policy
  contain mcollective_agent_logforward::machine

  if $ensure == 'present' {
    Class['mcollective_agent_logforward::install']
    -> File[$directories]
    -> File[$mcollective_agent_logforward::settings_file]
    -> Class['mcollective_agent_logforward::policy']
    -> Class['mcollective_agent_logforward::machine']
  } else {
    Class['mcollective_agent_logforward::machine'] -> Class['mcollective_agent_logforward::install']
    if $directories =~ NotUndef {
      # They are the package's as well.
      Class['mcollective_agent_logforward::install'] -> File[$directories]
    }
  }

  # The unit writes where the package has it; anywhere else it has to be told, and without a directory it can't even begin. Where the service isn't Puppet's,
  # neither is that: the daemon may run otherwise, and as another user.
  if $mcollective_agent_logforward::manage_service and !$staging {
    $kept = ['state', 'wishes'].map |$name| { String($values[$name]) } - ['', '/var/lib/logforward/forward', '/var/lib/logforward/wishes']
    $files = { 'audit_log' => '/var/log/logforward', 'socket' => '/run/logforward' }.map |$name, $packaged| {
      $dir = String($values[$name]).regsubst('/[^/]*\z', '')
      $dir ? {
        $packaged => '',
        default   => $dir,
      }
    }
    $made = $kept + ([$files[0]] - '')
    $elsewhere = $made + ([$files[1]] - '').map |$dir| { "-${dir}" }
    $additional = $ensure == 'present' and !$elsewhere.empty
    $there = $additional ? {
      true    => 'file',
      default => 'absent',
    }
    $addition = "${mcollective_agent_logforward::unit_dir}/${mcollective_agent_logforward::service_name}.service.d"
    # The directory may have additions of others, so it is never taken away.
    if $additional {
      file { $addition:
        ensure => 'directory',
        before => File["${addition}/paths.conf"],
      }
      $made.unique.each |$path| {
        $place = "'${path.regsubst('\'', '\'\\\\\'\'', 'G')}'"
        exec { "logforward directory ${path}":
          command  => "install -d -m 0700 -o logforward -g logforward -- ${place}",
          creates  => $path,
          path     => ['/usr/bin', '/bin'],
          provider => 'shell',
          require  => Class['mcollective_agent_logforward::install'],
          before   => File["${addition}/paths.conf"],
        }
      }
    }
    file { "${addition}/paths.conf":
      ensure  => $there,
      mode    => '0644',
      content => mcollective_agent_logforward::paths($elsewhere),
    }
    if $ensure == 'present' {
      File["${addition}/paths.conf"] ~> Service[$mcollective_agent_logforward::service_name]
    }
  }

  if $mcollective_agent_logforward::manage_service and !$staging {
    $state = $wanted ? {
      true    => 'running',
      default => 'stopped',
    }
    service { $mcollective_agent_logforward::service_name:
      ensure => $state,
      enable => $wanted,
    }
    if $ensure == 'present' {
      # Definitions and policy are read again by the daemon itself.
      File[$mcollective_agent_logforward::settings_file] ~> Service[$mcollective_agent_logforward::service_name]
      Class['mcollective_agent_logforward::policy'] -> Service[$mcollective_agent_logforward::service_name]
    } else {
      Class['mcollective_agent_logforward::machine']
      -> Service[$mcollective_agent_logforward::service_name]
      -> Class['mcollective_agent_logforward::install']
    }
  }
}
