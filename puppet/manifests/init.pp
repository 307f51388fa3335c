# @summary A node that forwards its logs, steered by Choria
#
# Installs the package, the agent and its description, the daemon's settings, what it forwards, who may change that, and
# the autonomous agent that keeps it running. Settings restart the daemon; definitions and policy don't: it reads them
# again by itself. Choria Server is restarted where the agent's files change, and only then.
#
# @example In Hiera
#   mcollective::plugin_classes:
#     - mcollective_agent_logforward
#   mcollective_agent_logforward::destinations:
#     central: {choria: /etc/choria/server.conf}
#   mcollective_agent_logforward::forwarders:
#     nginx-access: {path: /var/log/nginx/access.log}
#
# @param config_name Name of the plugin's configuration, without the suffix
# @param client_files Files for clients
# @param client_directories Directories for clients
# @param server_files Files for servers
# @param server_directories Directories for servers
# @param common_files Files for both
# @param common_directories Directories for both
# @param executable_files Those of the files that are programs
# @param manage_gem_dependencies Install gems
# @param gem_dependencies The gems, by name; none
# @param manage_package_dependencies Install packages that the agent depends on, besides its own
# @param package_dependencies These packages, by name; none
# @param manage_class_dependencies Include classes that the agent depends on
# @param class_dependencies These classes; none
# @param policy_default What Choria's action policy says to what `policies` don't name
# @param policies Choria's action policy, for sites that don't decide by Rego
# @param rego_policy_source The whole policy as a Rego document (`puppet:///…`), in place of `operators`
# @param config Settings by their own names, as for any agent
# @param client_config Settings for clients
# @param server_config Settings for servers
# @param client Install what clients need
# @param server Install what nodes need
# @param ensure `absent` takes away what this class put; checkpoints and decisions stay
# @param program Path of the program, which the agent is a link to
# @param settings The daemon's settings, by name; see the type, which has each one's meaning and default
# @param destinations Where this node may forward to, by name
# @param forwarders What is forwarded, by the log's name
# @param purge_forwarders Take away definitions that Puppet doesn't know
# @param operators Who may do what: the document that `logforward policy render` makes the policy of
# @param config_dir Directory of definitions, operators and what is staged; the settings `forwarders` and `staged` stand above it
# @param staging Only lay everything ready, for `choria req logforward plan` to tell what it would do, and for
#   `logforward plan --apply` to do it; nothing that is in force changes. Without it what was laid ready is taken away again
# @param manage_service Enable and run the unit; a node without a destination runs none
# @param service_name The unit
# @param unit_dir Where a unit's additions lie
# @param machine Link the autonomous agent, which keeps the daemon running, into Choria's store
# @param machine_store Where Choria Server looks for autonomous agents
# @param machine_source Where the package has them
# @param scout_check Add a Scout check; needs the class `choria`
# @param scout_interval How often it checks
# @param owner Who owns the files
# @param group Their group
class mcollective_agent_logforward (
  String[1]                                                                $config_name,
  Array[String]                                                            $client_files                = [],
  Array[String]                                                            $client_directories          = [],
  Array[String]                                                            $server_files                = [],
  Array[String]                                                            $server_directories          = [],
  Array[String]                                                            $common_files                = [],
  Array[String]                                                            $common_directories          = [],
  Array[String]                                                            $executable_files            = [],
  Boolean                                                                  $manage_gem_dependencies     = true,
  Hash                                                                     $gem_dependencies            = {},
  Boolean                                                                  $manage_package_dependencies = true,
  Hash                                                                     $package_dependencies        = {},
  Boolean                                                                  $manage_class_dependencies   = true,
  Array[String]                                                            $class_dependencies          = [],
  Mcollective::Policy_action                                               $policy_default              = $mcollective::policy_default,
  Array[Mcollective::Policy]                                               $policies                    = [],
  String                                                                   $rego_policy_source          = '',
  Hash                                                                     $config                      = {},
  Hash                                                                     $client_config               = {},
  Hash                                                                     $server_config               = {},
  Boolean                                                                  $client                      = $mcollective::client,
  Boolean                                                                  $server                      = $mcollective::server,
  Enum['present', 'absent']                                                $ensure                      = 'present',
  Mcollective_agent_logforward::Place                                      $program                     = '/usr/bin/logforward',
  Mcollective_agent_logforward::Forward_settings                           $settings                    = {},
  Hash[Pattern[/\A[A-Za-z0-9_-]{1,64}\z/], Mcollective_agent_logforward::Destination] $destinations     = {},
  Hash[Mcollective_agent_logforward::Log, Mcollective_agent_logforward::Definition] $forwarders         = {},
  Boolean                                                                  $purge_forwarders            = true,
  Optional[Hash]                                                           $operators                   = undef,
  Mcollective_agent_logforward::Place                                      $config_dir                  = '/etc/choria/logforward',
  Boolean                                                                  $staging                     = false,
  Boolean                                                                  $manage_service              = true,
  Mcollective_agent_logforward::Unit                                       $service_name                = 'logforward-forward',
  Mcollective_agent_logforward::Place                                      $unit_dir                    = '/etc/systemd/system',
  Boolean                                                                  $machine                     = true,
  Mcollective_agent_logforward::Place                                      $machine_store               = '/etc/choria/machine',
  Mcollective_agent_logforward::Place                                      $machine_source              = '/usr/share/logforward/machine',
  Boolean                                                                  $scout_check                 = false,
  String[1]                                                                $scout_interval              = '1m',
  Optional[String[1]]                                                      $owner                       = $mcollective::plugin_owner,
  Optional[String[1]]                                                      $group                       = $mcollective::plugin_group,
) {
  if $operators and $rego_policy_source != '' {
    fail('logforward: operators and rego_policy_source are two policies: give one of them')
  }

  # Settings don't pass through the plugin, because each change of a plugin restarts Choria Server.
  mcollective::module_plugin { $name:
    ensure                      => $ensure,
    config_name                 => $config_name,
    client_files                => $client_files,
    server_files                => $server_files,
    common_files                => $common_files,
    executable_files            => $executable_files,
    client_directories          => $client_directories,
    server_directories          => $server_directories,
    common_directories          => $common_directories,
    gem_dependencies            => $gem_dependencies,
    manage_gem_dependencies     => $manage_gem_dependencies,
    package_dependencies        => $package_dependencies,
    manage_package_dependencies => $manage_package_dependencies,
    class_dependencies          => $class_dependencies,
    manage_class_dependencies   => $manage_class_dependencies,
    policy_default              => $policy_default,
    policies                    => $policies,
    client                      => $client,
    server                      => $server,
  }

  # Another directory than the program's own is one that the program has to be told of.
  $told = $config_dir ? {
    '/etc/choria/logforward' => {},
    default                  => { 'forwarders' => "${config_dir}/forwarders.d", 'staged' => "${config_dir}/staged", 'former' => "${config_dir}/former" },
  }
  $usual = { 'forwarders' => "${config_dir}/forwarders.d", 'staged' => "${config_dir}/staged" }
  $places = $usual + $settings.filter |$name, $place| { $name in $usual and $place != '' }
  $staged = $places['staged']
  if $staging and $ensure == 'present' {
    $settings_file = "${staged}/logforward.cfg"
    $definitions = "${staged}/forwarders.d"
    $operators_file = "${staged}/operators.yaml"
    $policy_file = "${staged}/logforward.rego"
  } else {
    $settings_file = "${mcollective::configdir}/plugin.d/${config_name}.cfg"
    $definitions = $places['forwarders']
    $operators_file = "${config_dir}/operators.yaml"
    $policy_file = "${mcollective::configdir}/policies/rego/logforward.rego"
  }

  if $server {
    contain mcollective_agent_logforward::node
  } elsif $client {
    contain mcollective_agent_logforward::operator
  }
}
