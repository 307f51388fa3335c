# @summary A receiver at the centre: it writes the fleet's logs to files
#
# @example
#   class { 'mcollective_agent_logforward::receiver':
#     settings     => { 'url' => 'nats://broker.example.net:4222', 'retain_age' => '365d', 'rotate_size' => '1GiB' },
#     setup        => { 'partitions' => 8, 'replicas' => 3 },
#     manage_setup => true,
#   }
#
# @param settings The receiver's settings, by name; see the type, which has each one's meaning and default
# @param setup What the streams are like, for `logforward setup`
# @param manage_setup Make and change streams and buckets; one receiver, or any other machine with the rights, is enough
# @param config_file Its settings' file
# @param program Path of the program
# @param manage_service Enable and run the unit
# @param service_name The unit
# @param unit_dir Where a unit's additions lie
# @param manage_directories Make `output` and `state` where they aren't the package's and aren't there
# @param owner Who owns the settings
# @param group Who may read them: the receiver's own group, made by the package
# @param user Who runs it, and owns what it writes
# @param ensure `absent` takes away what this class put; received logs, and the receiver's state, stay
class mcollective_agent_logforward::receiver (
  Mcollective_agent_logforward::Receive_settings $settings           = {},
  Mcollective_agent_logforward::Setup_settings   $setup              = {},
  Boolean                                        $manage_setup       = false,
  Mcollective_agent_logforward::Place            $config_file        = '/etc/logforward/receive.cfg',
  Mcollective_agent_logforward::Place            $program            = '/usr/bin/logforward',
  Boolean                                        $manage_service     = true,
  Mcollective_agent_logforward::Unit             $service_name       = 'logforward-receive',
  Mcollective_agent_logforward::Place            $unit_dir           = '/etc/systemd/system',
  Boolean                                        $manage_directories = true,
  Mcollective_agent_logforward::Account          $owner              = 'root',
  Mcollective_agent_logforward::Account          $group              = 'logforward-receive',
  Mcollective_agent_logforward::Account          $user               = 'logforward-receive',
  Enum['present', 'absent']                      $ensure             = 'present',
) {
  $packaged = { 'output' => '/var/lib/logforward/received', 'state' => '/var/lib/logforward/receive' }
  $values = $packaged + $settings + $setup
  # The unit writes where the package has it; anywhere else it has to be told.
  $elsewhere = ['output', 'state'].filter |$name| { !($values[$name] in ['', $packaged[$name]]) }.map |$name| { $values[$name] }
  $addition = "${unit_dir}/${service_name}.service.d"
  $text = mcollective_agent_logforward::settings($values)
  $content = mcollective_agent_logforward::secret($values) ? {
    true    => Sensitive($text),
    default => $text,
  }
  $additional = $ensure == 'present' and !$elsewhere.empty
  $check = $ensure ? {
    'present' => "${program} config --for receive --config % > /dev/null",
    default   => undef,
  }
  $there = $additional ? {
    true    => 'file',
    default => 'absent',
  }
  $state = $ensure ? {
    'present' => 'running',
    default   => 'stopped',
  }

  include mcollective_agent_logforward::install
  if $ensure == 'present' {
    include mcollective_agent_logforward::wanted
    Class['mcollective_agent_logforward::install'] -> File[$config_file]
  }

  file { $config_file:
    ensure       => $ensure,
    owner        => $owner,
    group        => $group,
    mode         => '0640',
    content      => $content,
    validate_cmd => $check,
  }

  # The directory may have additions of others, so it is never taken away.
  if $additional {
    file { $addition:
      ensure => 'directory',
      before => File["${addition}/paths.conf"],
    }
  }
  file { "${addition}/paths.conf":
    ensure  => $there,
    mode    => '0644',
    content => mcollective_agent_logforward::paths($elsewhere),
  }

  # Without these the unit can't even begin. What is there stays as somebody made it.
  if $additional and $manage_directories {
    $elsewhere.unique.each |$path| {
      $quoted = "'${path.regsubst('\'', '\'\\\\\'\'', 'G')}'"
      exec { "logforward directory ${path}":
        command  => "install -d -m 0750 -o '${user}' -g '${group}' -- ${quoted}",
        creates  => $path,
        path     => ['/usr/bin', '/bin'],
        provider => 'shell',
        require  => Class['mcollective_agent_logforward::install'],
      }
      if $manage_service {
        Exec["logforward directory ${path}"] -> Service[$service_name]
      }
    }
  }

  if $manage_setup and $ensure == 'present' {
    # It asks the broker, and changes what differs; what is as it should be stays untouched.
    # With --noop on an empty machine the program isn't there yet: then there is something to do, and no error.
    exec { 'logforward setup':
      command  => "${program} setup --config '${config_file}'",
      unless   => "test -x ${program} && ${program} setup --check --config '${config_file}'",
      path     => ['/usr/bin', '/bin'],
      provider => 'shell',
      require  => File[$config_file],
    }
  }

  if $manage_service {
    service { $service_name:
      ensure => $state,
      enable => $ensure == 'present',
    }
    if $ensure == 'present' {
      File[$config_file] ~> Service[$service_name]
      File["${addition}/paths.conf"] ~> Service[$service_name]
      if $manage_setup {
        Exec['logforward setup'] -> Service[$service_name]
      }
    } else {
      Service[$service_name] -> File[$config_file]
      Service[$service_name] -> Class['mcollective_agent_logforward::install']
    }
  }
}
