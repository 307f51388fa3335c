# @summary Who may do what: the document that Choria Server and the node's daemon decide by
#
# The program renders it, on the node, from the operators' document that Puppet writes. So it is the same document that
# `logforward policy render` gives anybody else, with the same checks and the same tests, and one of the program's version.
# A document with a fault is refused by it, and the one before stays in force.
#
# @api private
class mcollective_agent_logforward::policy {
  $ensure = $mcollective_agent_logforward::ensure
  $program = $mcollective_agent_logforward::program
  $rego = $mcollective_agent_logforward::policy_file
  $document = $mcollective_agent_logforward::operators_file
  $operators = $mcollective_agent_logforward::operators
  $given = $operators =~ NotUndef or $mcollective_agent_logforward::rego_policy_source != ''

  if $given and $ensure == 'present' and !$mcollective_agent_logforward::staging {
    $directory = "${mcollective::configdir}/policies/rego"
    unless defined(File[$directory]) {
      exec { 'logforward policy directory':
        command => "mkdir -p '${directory}'",
        creates => $directory,
        path    => ['/usr/bin', '/bin'],
        before  => File[$rego],
      }
    }
  }

  if $operators =~ NotUndef {
    file { $document:
      ensure  => $ensure,
      owner   => $mcollective_agent_logforward::owner,
      group   => $mcollective_agent_logforward::group,
      mode    => '0644',
      content => template('mcollective_agent_logforward/operators.erb'),
    }
    if $ensure == 'present' {
      exec { 'logforward policy render':
        command  => "${program} policy render '${document}' --output '${rego}'",
        unless   => "${program} policy render '${document}' | cmp -s - '${rego}'",
        path     => ['/usr/bin', '/bin'],
        provider => 'shell',
        require  => File[$document],
        before   => File[$rego],
      }
    }
  }

  if $given {
    $there = $ensure ? {
      'present' => 'file',
      default   => 'absent',
    }
    $source = $mcollective_agent_logforward::rego_policy_source ? {
      ''      => undef,
      default => $mcollective_agent_logforward::rego_policy_source,
    }
    file { $rego:
      ensure => $there,
      owner  => $mcollective_agent_logforward::owner,
      group  => $mcollective_agent_logforward::group,
      mode   => '0644',
      source => $source,
    }
  }
}
